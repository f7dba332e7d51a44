//! Every frame in order, held against all that a frame promises.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::frame::{FrameView, HEADER, Seed};
use crate::index::{FrameEntry, Index, MemoryIndex, StreamEntry, Unfit};
use crate::log::{FrameScanner, SEGMENT_HEADER, Segment, limits};
use crate::names::Hasher128Keyed;

/// Shown each good frame of a scan.
pub(crate) type EachFrame<'a> = dyn FnMut(&Segment, &FrameEntry) -> Result<()> + 'a;

/// A scan of the whole log, and the index that it builds.
#[derive(Debug)]
pub(crate) struct Scan {
    seed: Seed,
    hasher: Hasher128Keyed,
    pub(crate) index: MemoryIndex,
    pub(crate) chain: u64,
    pub(crate) next_position: u64,
    /// The highest address that a valid frame says was durable.
    pub(crate) hint: u64,
    /// The address after the last good frame; in a sealing segment even before its first.
    pub(crate) tail: u64,
    /// Everything below is durable because a sealing segment was made.
    pub(crate) sealed: u64,
    /// What was wrong at the tail.
    pub(crate) stopped: &'static str,
    pub(crate) frames: u64,
    pub(crate) last_commit_time: u64,
}

impl Scan {
    pub(crate) fn new(seed: Seed, hasher: Hasher128Keyed) -> Self {
        let index = MemoryIndex::default();
        Self {
            seed,
            hasher,
            index,
            chain: 0,
            next_position: 1,
            hint: 0,
            tail: SEGMENT_HEADER,
            sealed: 0,
            stopped: "",
            frames: 0,
            last_commit_time: 0,
        }
    }

    /// Scans all segments, but nothing from `until` on.
    pub(crate) fn run(&mut self, segments: &[Arc<Segment>], until: u64) -> Result<()> {
        self.run_with(segments, until, &mut |_, _| Ok(()))
    }

    /// As [`Scan::run`]; `each` is shown every good frame, and may end the scan.
    pub(crate) fn run_with(
        &mut self,
        segments: &[Arc<Segment>],
        until: u64,
        each: &mut EachFrame<'_>,
    ) -> Result<()> {
        for (segment, limit) in segments.iter().zip(limits(segments)) {
            self.enter(segments, segment)?;
            self.segment(segment, limit.min(until), each)?;
        }
        Ok(())
    }

    /// A sealing segment goes on from where the log before it was durable, and from nowhere
    /// else.
    fn enter(&mut self, segments: &[Arc<Segment>], segment: &Segment) -> Result<()> {
        let Some(seal) = segment.continues_from else {
            return Ok(());
        };
        if self.tail < seal.address {
            return Err(self.damage(segments, seal.address));
        }
        if self.tail > seal.address || self.chain != seal.chain {
            let reason = "it does not go on from the log before it";
            return Err(Error::corrupt(&segment.path, 0, reason));
        }
        self.tail = segment.first_frame();
        self.sealed = self.tail;
        Ok(())
    }

    /// The tail stands below an address that is proven durable.
    pub(crate) fn damage(&self, segments: &[Arc<Segment>], proven: u64) -> Error {
        let tail = self.tail;
        let reason = format!(
            "{}, though the log was durable up to address {proven} (this is {tail})",
            self.stopped
        );
        let holder = segments.iter().rfind(|segment| segment.entry.base <= tail);
        match holder {
            Some(segment) => Error::corrupt(&segment.path, segment.offset(tail), reason),
            None => Error::corrupt(std::path::Path::new("log"), 0, reason),
        }
    }

    /// Scans one segment to its first bad frame or to `limit`. An empty one, prepared ahead,
    /// leaves the tail in the one before.
    fn segment(&mut self, segment: &Segment, limit: u64, each: &mut EachFrame<'_>) -> Result<()> {
        let mut scanner = FrameScanner::new(segment);
        let mut entry = FrameEntry::default();
        let mut address = segment.first_frame();
        loop {
            if address >= limit {
                return Ok(());
            }
            if address + HEADER as u64 > segment.end() {
                self.stopped = "the segment is full";
                return Ok(());
            }
            let read = scanner.frame(address, self.seed);
            let frame = match read.map_err(|e| segment.error("read", &e))? {
                Ok(frame) => frame,
                Err(reason) => {
                    self.stopped = reason;
                    return Ok(());
                }
            };
            let header = *frame.header();
            if header.previous_chain != self.chain || header.first_position != self.next_position {
                self.stopped = "the frame does not continue the log before it";
                return Ok(());
            }
            if address + u64::from(header.length) > limit {
                self.stopped = "a frame stands across the end";
                return Ok(());
            }
            describe(&frame, address, &self.hasher, &mut entry);
            let chain = frame.chain();
            self.index
                .apply(&entry)
                .map_err(|unfit| refusal(unfit, segment, address))?;
            each(segment, &entry)?;
            self.chain = chain;
            self.next_position = header.next_position();
            self.hint = self.hint.max(header.durable_hint);
            self.frames += 1;
            self.last_commit_time = header.commit_time;
            address = entry.end();
            self.tail = address;
        }
    }
}

/// The chain proves that the frame is the log's next; a wrong version in it can't be torn.
fn refusal(unfit: Unfit, segment: &Segment, address: u64) -> Error {
    match unfit {
        Unfit::Full(full) => full.error(),
        Unfit::Version { .. } => {
            Error::corrupt(&segment.path, segment.offset(address), unfit.to_string())
        }
    }
}

/// Writes down what a frame adds to the index, over what was written down of the last one.
pub(crate) fn describe(
    frame: &FrameView<'_>,
    address: u64,
    hasher: &Hasher128Keyed,
    entry: &mut FrameEntry,
) {
    let header = frame.header();
    entry.address = address;
    entry.length = u64::from(header.length);
    entry.first_position = header.first_position;
    entry.events = u64::from(header.events);
    entry.key = frame.key().map(|(text, _)| hasher.idempotency_key(text));
    entry.streams.clear();
    let heads = frame.heads();
    let heads = heads.map(|(key, base_version, count)| StreamEntry {
        key,
        base_version,
        count,
    });
    entry.streams.extend(heads);
    order(frame, entry);
}

/// For each stream in turn, the ordinals of its events.
fn order(frame: &FrameView<'_>, entry: &mut FrameEntry) {
    let events = frame.header().events;
    entry.ordinals.clear();
    if entry.streams.len() <= 1 {
        entry.ordinals.extend(0..events);
        return;
    }
    let mut begin = 0usize;
    let begins = entry.streams.iter().map(|stream| {
        let own = begin;
        begin += stream.count as usize;
        own
    });
    let mut next: Vec<usize> = begins.collect();
    entry.ordinals.resize(events as usize, 0);
    for ordinal in 0..events {
        let stream = frame.event_stream(ordinal).unwrap_or_default() as usize;
        if let Some(place) = next.get_mut(stream) {
            if let Some(slot) = entry.ordinals.get_mut(*place) {
                *slot = ordinal;
            }
            *place += 1;
        }
    }
}
