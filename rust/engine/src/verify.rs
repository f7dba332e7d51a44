//! Verification of an open store: compares its files with what it has in memory.
//!
//! `Quick` reads the small files, the segments' headers and the newest frames. That is enough to
//! notice that files were replaced or that the disk loses writes. `Full` reads every frame, and
//! compares the log and the index of the open store in both directions.
//!
//! The store is not locked meanwhile. The durable end and the size of the index are taken at one
//! moment at the beginning, and everything that is committed afterwards is ignored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::index::{Chunk, ChunkTable, FrameEntry, Index, StreamEntry};
use crate::live::{LiveLog, LogEnd};
use crate::log::{FrameScanner, Segment, bytes_below, limits};
use crate::recovery::Scan;

/// The approximate number of bytes of frames that a quick verification reads.
const NEWEST: u64 = 1 << 20;

/// How much a verification reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Depth {
    /// Every frame, compared with the index, the small files, and every segment's header.
    #[default]
    Full,
    /// The small files, every segment's header, and about the newest MiB of frames.
    Quick,
}

/// A verify report: what a verification has read and found valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Frames, including the engine's own.
    pub frames: u64,
    /// Events in these frames.
    pub events: u64,
    /// Streams that these events belong to.
    pub streams: u64,
    /// Bytes of log.
    pub bytes: u64,
    /// Files in `quarantine/`, which have no place in the log and which recovery has kept.
    pub quarantined: u64,
    /// How much was read.
    pub depth: Depth,
}

/// Verify an open store.
pub(crate) fn verify(log: &LiveLog, end: &dyn LogEnd, depth: Depth) -> Result<VerifyReport> {
    log.segments.verify_files()?;
    let pin = Pin::of(log, end);
    let report = match depth {
        Depth::Quick => newest_frames(log, pin.end)?,
        Depth::Full => {
            // A read-only session doesn't repair the end of the log, so there may be bytes after
            // what it has opened.
            if !log.segments.is_read_only() {
                no_stray_bytes(end)?;
            }
            every_frame(log, &pin)?
        }
    };
    Ok(VerifyReport {
        quarantined: log.segments.quarantined()?,
        depth,
        ..report
    })
}

/// The durable state at the beginning of the verification.
#[derive(Debug)]
struct Pin {
    end: u64,
    head: u64,
    streams: u64,
    idempotency_keys: u64,
    chunks: usize,
}

impl Pin {
    /// Read all numbers under the index's lock. A publication changes the durable end and the index
    /// under the same lock, so the numbers belong to the same moment.
    fn of(log: &LiveLog, end: &dyn LogEnd) -> Self {
        let index = log.index.read();
        Self {
            end: end.durable_end(),
            head: index.head(),
            streams: index.streams(),
            idempotency_keys: index.idempotency_keys(),
            chunks: index.chunks().len(),
        }
    }
}

fn no_stray_bytes(end: &dyn LogEnd) -> Result<()> {
    match end.stray_byte()? {
        None => Ok(()),
        Some((segment, offset)) => {
            let reason = "expected zeros after the end of the log, found other bytes";
            Err(Error::corrupt(&segment.path, offset, reason))
        }
    }
}

fn every_frame(log: &LiveLog, pin: &Pin) -> Result<VerifyReport> {
    let segments = log.segments.all();
    let mut scan = Scan::new(log.seed, log.hasher);
    let mut streams = HashSet::new();
    scan.run_with(&segments, pin.end, &mut |segment, entry| {
        streams.extend(entry.streams.iter().map(|stream| stream.stream_hash));
        check_indexed(log, entry)
            .map_err(|reason| Error::corrupt(&segment.path, segment.offset(entry.address), reason))
    })?;
    if scan.tail < pin.end {
        scan.tail = missing_frame(log, &segments, scan.tail);
        return Err(scan.damage(&segments, pin.end));
    }
    check_nothing_else_is_indexed(log, pin, &scan, &streams)
        .map_err(|reason| Error::corrupt(&log.segments.layout.log(), 0, reason))?;
    Ok(VerifyReport {
        frames: scan.frames,
        events: scan.next_position - 1,
        streams: scan.index.streams(),
        bytes: bytes_below(&segments, pin.end),
        ..VerifyReport::default()
    })
}

/// Return the address at which the frame after `tail` is missing: `tail` itself, or the first
/// frame's address in a later segment.
fn missing_frame(log: &LiveLog, segments: &[Arc<Segment>], tail: u64) -> u64 {
    let index = log.index.read();
    let is_indexed = |address| {
        let chunk = index.chunks().of_address(address);
        chunk.is_some_and(|chunk| chunk.end() > address)
    };
    let later = segments.iter().map(|segment| segment.first_frame());
    std::iter::once(tail)
        .chain(later.filter(|first| *first > tail))
        .find(|address| is_indexed(*address))
        .unwrap_or(tail)
}

/// From the log to the index: check that the events, the key and the address of a frame are
/// indexed.
fn check_indexed(log: &LiveLog, entry: &FrameEntry) -> std::result::Result<(), &'static str> {
    let index = log.index.read();
    let mut ordinals = entry.ordinals.as_slice();
    for stream in &entry.streams {
        let (own, rest) = ordinals
            .split_at_checked(stream.count as usize)
            .unwrap_or((ordinals, &[]));
        ordinals = rest;
        if !has_postings(&*index, entry, stream, own) {
            return Err("the index of the open store lacks an event of this frame; reopen it");
        }
    }
    if !has_created_streams(&*index, entry) {
        return Err("the index of the open store lacks a new stream of this frame; reopen it");
    }
    if entry
        .key_hash
        .is_some_and(|key_hash| index.keyed_frame(key_hash) != Some(entry.address))
    {
        return Err("the index of the open store lacks this frame's idempotency key; reopen it");
    }
    let contains = |chunk: Chunk| chunk.end() >= entry.end();
    if !index
        .chunks()
        .of_address(entry.address)
        .is_some_and(contains)
    {
        return Err("the index of the open store lacks this frame's address; reopen it");
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
    index.positions(stream.stream_hash, first, last, &mut positions);
    let expected = ordinals
        .iter()
        .map(|ordinal| entry.first_position + u64::from(*ordinal));
    positions.into_iter().eq(expected)
}

/// Whether the categories of the streams that a frame creates list these streams.
fn has_created_streams(index: &dyn Index, entry: &FrameEntry) -> bool {
    let before = entry.first_position.saturating_sub(1);
    let last = before + entry.events();
    let mut expected: HashMap<u128, u64> = HashMap::new();
    for category in entry.created_categories.as_slice() {
        *expected.entry(*category).or_default() += 1;
    }
    expected.into_iter().all(|(category, created)| {
        let version = |position| index.category_version_at(category, position);
        version(last) - version(before) == created
    })
}

/// From the index to the log: check that everything that was indexed at the pin is in the log.
fn check_nothing_else_is_indexed(
    log: &LiveLog,
    pin: &Pin,
    scan: &Scan,
    streams: &HashSet<u128>,
) -> std::result::Result<(), &'static str> {
    let (scanned, index) = (&scan.index, log.index.read());
    if (pin.head, pin.streams) != (scanned.head(), scanned.streams()) {
        return Err("the open store has other events or streams than the log; reopen it");
    }
    if pin.idempotency_keys != scanned.idempotency_keys() {
        return Err("the open store has other idempotency keys than the log; reopen it");
    }
    let has_same_version = |stream_hash: &u128| {
        index.version_at(*stream_hash, pin.head) == scanned.version(*stream_hash)
    };
    if !streams.iter().all(has_same_version) {
        return Err("the open store has another version of a stream than the log; reopen it");
    }
    if pin.chunks != scanned.chunks().len() || !are_same_chunks(index.chunks(), scanned.chunks()) {
        return Err("the open store has frames at addresses where the log has none; reopen it");
    }
    Ok(())
}

/// Whether two tables have the same chunks. The last scanned one may have grown since the pin.
fn are_same_chunks(live: &ChunkTable, scanned: &ChunkTable) -> bool {
    let last = scanned.len().saturating_sub(1);
    (0..scanned.len()).all(|i| match (live.get(i), scanned.get(i)) {
        (Some(live), Some(scanned)) if i == last => {
            live.address == scanned.address
                && live.first_position == scanned.first_position
                && live.length >= scanned.length
        }
        (live, scanned) => live == scanned,
    })
}

/// A walk over consecutive frames, each compared with the one before it.
#[derive(Debug, Default)]
struct FrameWalk {
    report: VerifyReport,
    /// The chain and the next position after the last frame.
    expected: Option<(u64, u64)>,
    /// The address after the last valid frame.
    end: u64,
    /// Why the walk ended there.
    stopped: &'static str,
}

fn newest_frames(log: &LiveLog, end: u64) -> Result<VerifyReport> {
    let segments = log.segments.all();
    let from = {
        let index = log.index.read();
        let chunks = index.chunks();
        let wanted = chunks.of_address(end.saturating_sub(NEWEST));
        wanted.or(chunks.get(0)).map_or(end, |chunk| chunk.address)
    };
    let mut walk = FrameWalk {
        end: from,
        ..FrameWalk::default()
    };
    let mut streams = HashSet::new();
    for (segment, limit) in segments.iter().zip(limits(&segments)) {
        if segment.end() > from {
            let begin = from.max(segment.first_frame());
            walk.segment(log, segment, begin, limit.min(end), &mut streams)?;
        }
    }
    if walk.end < last_frame_end(&segments, end) {
        let containing = segments.iter().rfind(|s| s.entry.base <= walk.end);
        let containing = containing.ok_or(Error::Closed)?;
        return Err(Error::corrupt(
            &containing.path,
            containing.offset(walk.end),
            walk.stopped,
        ));
    }
    walk.report.streams = streams.len() as u64;
    Ok(walk.report)
}

/// Return the end of the last frame. That is the tail, unless the tail is in a continuation segment
/// without frames: then it is the cut that the segment continues from.
fn last_frame_end(segments: &[Arc<Segment>], tail: u64) -> u64 {
    let mut end = tail;
    let cut_before = |end| {
        let mut continuations = segments.iter().filter(|s| s.continues_from.is_some());
        let starting_here = continuations.find(|s| s.first_frame() == end);
        starting_here?.continues_from
    };
    while let Some(cut) = cut_before(end) {
        end = cut.address;
    }
    end
}

impl FrameWalk {
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
            let actual = (header.previous_chain, header.first_position);
            if self.expected.is_some_and(|expected| expected != actual) {
                self.stopped = "the frame does not continue the log before it";
                return Ok(());
            }
            self.expected = Some((frame.chain(), header.next_position()));
            streams.extend(frame.heads().map(|(stream_hash, ..)| stream_hash));
            self.report.frames += 1;
            self.report.events += u64::from(header.events);
            self.report.bytes += u64::from(header.length);
            address += u64::from(header.length);
            self.end = address;
        }
        Ok(())
    }
}
