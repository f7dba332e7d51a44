//! Is what the disk has what the store promises?
//!
//! `Quick` looks at the small files, the headers and the newest frames: enough to see that
//! the disk has the right files and keeps what it is given. `Full` reads every frame, and
//! holds the log and the index of the open store against each other, both ways.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::{ChunkTable, FrameEntry, Index, StreamEntry};
use crate::live::{LiveLog, LogEnd};
use crate::log::{FrameScanner, Segment, bytes_below, limits};
use crate::recovery::Scan;

/// How many bytes of the newest frames a quick verification reads, about.
const NEWEST: u64 = 1 << 20;

/// How much a verification reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Depth {
    /// Every frame, compared with the index, and all that `Quick` reads.
    #[default]
    Full,
    /// The small files, every segment's header, and about the newest MiB of frames.
    Quick,
}

/// What a verification has read, and found sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Frames, those of the engine itself included.
    pub frames: u64,
    /// Events in them.
    pub events: u64,
    /// Streams that these events belong to.
    pub streams: u64,
    /// Bytes of log.
    pub bytes: u64,
    /// Files in `quarantine/`, which recovery could not place in the log and kept.
    pub quarantined: u64,
    /// How much was read.
    pub depth: Depth,
}

/// Reads the files of an open store again.
pub(crate) fn verify(log: &LiveLog, end: &dyn LogEnd, depth: Depth) -> Result<Verified> {
    log.segments.verify_files()?;
    let pin = Pin::of(log, end);
    let read = match depth {
        Depth::Quick => newest_frames(log, pin.end)?,
        Depth::Full => {
            // What follows a log that is only looked at, nobody has cut off or proven.
            if !log.segments.is_read_only() {
                no_stray_bytes(end)?;
            }
            every_frame(log, &pin)?
        }
    };
    Ok(Verified {
        quarantined: log.segments.quarantined()?,
        depth,
        ..read
    })
}

/// The durable state at one moment.
#[derive(Debug)]
struct Pin {
    end: u64,
    head: u64,
    streams: u64,
    keys: u64,
    chunks: usize,
}

impl Pin {
    /// The end and the index move together, under the index's lock.
    fn of(log: &LiveLog, end: &dyn LogEnd) -> Self {
        let index = log.index.read();
        Self {
            end: end.durable_end(),
            head: index.head(),
            streams: index.streams(),
            keys: index.keys(),
            chunks: index.chunks().len(),
        }
    }
}

fn no_stray_bytes(end: &dyn LogEnd) -> Result<()> {
    match end.stray_byte()? {
        None => Ok(()),
        Some((segment, offset)) => {
            let reason = "there are bytes beyond the end of the log, where only zeros belong";
            Err(Error::corrupt(&segment.path, offset, reason))
        }
    }
}

fn every_frame(log: &LiveLog, pin: &Pin) -> Result<Verified> {
    let segments = log.segments.all();
    let mut scan = Scan::new(log.seed, log.hasher);
    let mut streams = HashSet::new();
    scan.run_with(&segments, pin.end, &mut |segment, entry| {
        streams.extend(entry.streams.iter().map(|stream| stream.key));
        is_indexed(log, entry)
            .map_err(|reason| Error::corrupt(&segment.path, segment.offset(entry.address), reason))
    })?;
    if scan.tail < pin.end {
        scan.tail = first_missing(log, &segments, scan.tail);
        return Err(scan.damage(&segments, pin.end));
    }
    nothing_else_is_indexed(log, pin, &scan, &streams)
        .map_err(|reason| Error::corrupt(&log.segments.layout.log(), 0, reason))?;
    Ok(Verified {
        frames: scan.frames,
        events: scan.next_position - 1,
        streams: scan.index.streams(),
        bytes: bytes_below(&segments, pin.end),
        ..Verified::default()
    })
}

/// Where the frame stands that should come after `tail`: there, or first in a later segment.
fn first_missing(log: &LiveLog, segments: &[Arc<Segment>], tail: u64) -> u64 {
    let index = log.index.read();
    let holds = |address| {
        let chunk = index.chunks().of_address(address);
        chunk.is_some_and(|chunk| chunk.end() > address)
    };
    let later = segments.iter().map(|segment| segment.first_frame());
    std::iter::once(tail)
        .chain(later.filter(|first| *first > tail))
        .find(|address| holds(*address))
        .unwrap_or(tail)
}

/// From the log to the index: a frame's events, key and place.
fn is_indexed(log: &LiveLog, entry: &FrameEntry) -> std::result::Result<(), &'static str> {
    let index = log.index.read();
    let mut ordinals = entry.ordinals.as_slice();
    for stream in &entry.streams {
        let (own, rest) = ordinals
            .split_at_checked(stream.count as usize)
            .unwrap_or((ordinals, &[]));
        ordinals = rest;
        if !has_postings(&*index, entry, stream, own) {
            return Err("the index of the open store lacks an event of this frame; open it again");
        }
    }
    if entry
        .key
        .is_some_and(|key| index.keyed_frame(key) != Some(entry.address))
    {
        return Err("the index of the open store lacks the key of this frame; open it again");
    }
    let holds = |chunk: crate::index::Chunk| chunk.end() >= entry.end();
    if !index.chunks().of_address(entry.address).is_some_and(holds) {
        return Err("the index of the open store lacks this frame's place; open it again");
    }
    Ok(())
}

fn has_postings(
    index: &dyn Index,
    entry: &FrameEntry,
    stream: &StreamEntry,
    ordinals: &[u32],
) -> bool {
    let (first, last) = (
        stream.base_version + 1,
        stream.base_version + u64::from(stream.count),
    );
    let mut positions = Vec::with_capacity(ordinals.len());
    index.positions(stream.key, first, last, &mut positions);
    let expected = ordinals
        .iter()
        .map(|ordinal| entry.first_position + u64::from(*ordinal));
    positions.into_iter().eq(expected)
}

/// From the index to the log: what was indexed at the pin is what the log holds.
fn nothing_else_is_indexed(
    log: &LiveLog,
    pin: &Pin,
    scan: &Scan,
    streams: &HashSet<u128>,
) -> std::result::Result<(), &'static str> {
    let (found, index) = (&scan.index, log.index.read());
    if (pin.head, pin.streams) != (found.head(), found.streams()) {
        return Err("the open store has other events or streams than the log; open it again");
    }
    if pin.keys != found.keys() {
        return Err("the open store knows other idempotency keys than the log; open it again");
    }
    let same_version = |key: &u128| index.version_at(*key, pin.head) == found.version(*key);
    if !streams.iter().all(same_version) {
        return Err("the open store has another version of a stream than the log; open it again");
    }
    if pin.chunks != found.chunks().len() || !same_chunks(index.chunks(), found.chunks()) {
        return Err("the open store looks for frames where the log has none; open it again");
    }
    Ok(())
}

/// The newest chunk may have grown since.
fn same_chunks(live: &ChunkTable, found: &ChunkTable) -> bool {
    let last = found.len().saturating_sub(1);
    (0..found.len()).all(|i| match (live.get(i), found.get(i)) {
        (Some(live), Some(found)) if i == last => {
            live.address == found.address
                && live.first_position == found.first_position
                && live.length >= found.length
        }
        (live, found) => live == found,
    })
}

/// Frames in a row, each held against the one before it.
#[derive(Debug, Default)]
struct Walk {
    read: Verified,
    /// The chain and the position after the last frame.
    follows: Option<(u64, u64)>,
    /// Where the last good frame ends, and what was found there.
    end: u64,
    stopped: &'static str,
}

fn newest_frames(log: &LiveLog, end: u64) -> Result<Verified> {
    let segments = log.segments.all();
    let from = {
        let index = log.index.read();
        let chunks = index.chunks();
        let wanted = chunks.of_address(end.saturating_sub(NEWEST));
        wanted.or(chunks.get(0)).map_or(end, |chunk| chunk.address)
    };
    let mut walk = Walk {
        end: from,
        ..Walk::default()
    };
    let mut streams = HashSet::new();
    for (segment, limit) in segments.iter().zip(limits(&segments)) {
        if segment.end() > from {
            let begin = from.max(segment.first_frame());
            walk.segment(log, segment, begin, limit.min(end), &mut streams)?;
        }
    }
    if walk.end < last_frame_end(&segments, end) {
        let holder = segments.iter().rfind(|s| s.entry.base <= walk.end);
        let holder = holder.ok_or(Error::Closed)?;
        return Err(Error::corrupt(
            &holder.path,
            holder.offset(walk.end),
            walk.stopped,
        ));
    }
    walk.read.streams = streams.len() as u64;
    Ok(walk.read)
}

/// Where the last frame ends: the tail, unless that is in a sealing segment without frames.
fn last_frame_end(segments: &[Arc<Segment>], tail: u64) -> u64 {
    let mut end = tail;
    let seal = |end| {
        let mut sealing = segments.iter().filter(|s| s.continues_from.is_some());
        sealing.find(|s| s.first_frame() == end)?.continues_from
    };
    while let Some(seal) = seal(end) {
        end = seal.address;
    }
    end
}

impl Walk {
    fn segment(
        &mut self,
        log: &LiveLog,
        segment: &Segment,
        begin: u64,
        limit: u64,
        streams: &mut HashSet<u128>,
    ) -> Result<()> {
        let mut scanner = FrameScanner::new(segment);
        let mut address = begin;
        while address < limit {
            let frame = match scanner.frame(address, log.seed) {
                Ok(Ok(frame)) => frame,
                Ok(Err(reason)) => {
                    self.stopped = reason;
                    return Ok(());
                }
                Err(e) => return Err(segment.error("read", &e)),
            };
            let header = *frame.header();
            let own = (header.previous_chain, header.first_position);
            if self.follows.is_some_and(|follows| follows != own) {
                self.stopped = "the frame does not continue the log before it";
                return Ok(());
            }
            self.follows = Some((frame.chain(), header.next_position()));
            streams.extend(frame.heads().map(|(key, ..)| key));
            self.read.frames += 1;
            self.read.events += u64::from(header.events);
            self.read.bytes += u64::from(header.length);
            address += u64::from(header.length);
            self.end = address;
        }
        Ok(())
    }
}
