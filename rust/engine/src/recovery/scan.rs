//! The scan of a log: every frame in order, validated, and the index built from them.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::frame::{FrameView, HEADER, Seed};
use crate::index::{ApplyError, FrameEntry, Index, MemoryIndex, StreamEntry};
use crate::log::{FrameScanner, SEGMENT_HEADER, Segment, limits};
use crate::names::NameHasher;

/// Called with each valid frame of a scan.
pub(crate) type EachFrame<'a> = dyn FnMut(&Segment, &FrameEntry) -> Result<()> + 'a;

/// A scan of the whole log, and the index that it builds.
#[derive(Debug)]
pub(crate) struct Scan {
    seed: Seed,
    hasher: NameHasher,
    pub(crate) index: MemoryIndex,
    /// The chain of the last valid frame.
    pub(crate) chain: u64,
    /// The position that the next event gets.
    pub(crate) next_position: u64,
    /// The highest durable hint of the valid frames.
    durable_hint: u64,
    /// The address after the last valid frame. If the last segment is a continuation segment
    /// without frames, it is the address at which the first frame of that segment will begin.
    pub(crate) tail: u64,
    /// The address at which the frames of the last continuation segment begin. The log below it is
    /// durable: a continuation segment is created only after the log up to the cut is known to be
    /// durable.
    continuation: u64,
    /// Why the scan ended at the tail.
    pub(crate) stopped: &'static str,
    pub(crate) frames: u64,
    pub(crate) last_commit_time: u64,
}

impl Scan {
    pub(crate) fn new(seed: Seed, hasher: NameHasher) -> Self {
        let index = MemoryIndex::default();
        Self {
            seed,
            hasher,
            index,
            chain: 0,
            next_position: 1,
            durable_hint: 0,
            tail: SEGMENT_HEADER,
            continuation: 0,
            stopped: "",
            frames: 0,
            last_commit_time: 0,
        }
    }

    /// The highest address that the scanned frames and segments prove durable.
    pub(crate) fn proven_end(&self) -> u64 {
        self.durable_hint.max(self.continuation)
    }

    /// Scan all segments up to the address `until`.
    pub(crate) fn run(&mut self, segments: &[Arc<Segment>], until: u64) -> Result<()> {
        self.run_with(segments, until, &mut |_, _| Ok(()))
    }

    /// Scan as [`Scan::run`] does, and call `each` with every valid frame. An error of `each` ends
    /// the scan.
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

    /// Begin a segment. A continuation segment must continue exactly from the cut that its header
    /// records. The log before the cut was durable.
    fn enter(&mut self, segments: &[Arc<Segment>], segment: &Segment) -> Result<()> {
        let Some(cut) = segment.continues_from else {
            return Ok(());
        };
        if self.tail < cut.address {
            return Err(self.damage(segments, cut.address));
        }
        if self.tail > cut.address || self.chain != cut.chain {
            let reason = format!(
                "its header continues the log from address {}, but the log before it ends at {}",
                cut.address, self.tail
            );
            return Err(Error::corrupt(&segment.path, 0, reason));
        }
        self.tail = segment.first_frame();
        self.continuation = self.tail;
        Ok(())
    }

    /// The error for a tail below an address that is proven durable.
    pub(crate) fn damage(&self, segments: &[Arc<Segment>], proven: u64) -> Error {
        let tail = self.tail;
        let reason = format!(
            "{}, though the log was durable up to address {proven} (this is {tail})",
            self.stopped
        );
        let containing = segments.iter().rfind(|segment| segment.entry.base <= tail);
        match containing {
            Some(segment) => Error::corrupt(&segment.path, segment.offset(tail), reason),
            None => Error::corrupt(std::path::Path::new("log"), 0, reason),
        }
    }

    /// Scan one segment up to its first invalid frame or to `limit`. A segment without frames,
    /// which was prepared ahead, leaves the tail at the end of the segment before it.
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
                self.stopped = "a frame crosses the end of the log";
                return Ok(());
            }
            if !has_hashes_of_its_names(&frame, &self.hasher) {
                let reason = "the frame contains a stream whose hash is not that of its name";
                return Err(Error::corrupt(
                    &segment.path,
                    segment.offset(address),
                    reason,
                ));
            }
            describe(&frame, address, &self.hasher, &mut entry);
            let chain = frame.chain();
            self.index
                .apply(&entry)
                .map_err(|refused| index_error(refused, segment, address))?;
            each(segment, &entry)?;
            self.chain = chain;
            self.next_position = header.next_position();
            self.durable_hint = self.durable_hint.max(header.durable_hint);
            self.frames += 1;
            self.last_commit_time = header.commit_time;
            address = entry.end();
            self.tail = address;
        }
    }
}

/// The error for a frame that the index refuses. A wrong version is damage and never a torn write:
/// the chain proves that the frame was written as the next one of this log.
fn index_error(refused: ApplyError, segment: &Segment, address: u64) -> Error {
    match refused {
        ApplyError::Full(limit) => limit.error(),
        ApplyError::VersionMismatch { .. } => {
            Error::corrupt(&segment.path, segment.offset(address), refused.to_string())
        }
    }
}

/// Whether the streams of a frame are indexed under their own names. The index contains only hashes,
/// so with another hash the events would be in the log, but in no stream that can be read.
fn has_hashes_of_its_names(frame: &FrameView<'_>, hasher: &NameHasher) -> bool {
    let names = frame.streams().map(|stream| hasher.stream(stream.name));
    names.eq(frame.heads().map(|(stream_hash, ..)| stream_hash))
}

/// Fill `entry` with what a frame adds to the index. The buffers of `entry` are reused, so that a
/// scan does not allocate memory for each frame.
pub(crate) fn describe(
    frame: &FrameView<'_>,
    address: u64,
    hasher: &NameHasher,
    entry: &mut FrameEntry,
) {
    let header = frame.header();
    entry.address = address;
    entry.length = u64::from(header.length);
    entry.first_position = header.first_position;
    entry.key_hash = frame.key().map(|(text, _)| hasher.idempotency_key(text));
    entry.streams.clear();
    let heads = frame.heads();
    let heads = heads.map(|(stream_hash, base_version, count)| StreamEntry {
        stream_hash,
        base_version,
        count,
    });
    entry.streams.extend(heads);
    let created = (0u32..).zip(&entry.streams);
    let created = created.filter(|(_, stream)| stream.is_created());
    let names = created.filter_map(|(number, _)| Some(frame.stream(number)?.name));
    entry
        .created_categories
        .replace(names.map(|name| hasher.category_of(name)));
    group_ordinals_by_stream(frame, entry);
}

/// Fill in the ordinals of the events, grouped by stream: a counting sort by stream.
fn group_ordinals_by_stream(frame: &FrameView<'_>, entry: &mut FrameEntry) {
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
        if let Some(slot) = next.get_mut(stream) {
            if let Some(target) = entry.ordinals.get_mut(*slot) {
                *target = ordinal;
            }
            *slot += 1;
        }
    }
}
