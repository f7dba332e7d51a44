//! Reads of the log by position, with a filter.

use super::chunk_reader::ChunkReader;
use super::query::{LogQuery, ReadBatch};
use super::recorded_event::{Recorded, batch_bytes};
use super::stream_read::{Locations, locate};
use crate::chunk::{FrameAt, LoadedChunk};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::frame::FrameView;
use crate::index::Index;
use crate::live::{LiveLog, Loader};
use crate::names;
use crate::options::ReadMode;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The maximum number of bytes of log that one batch scans in search of matches.
const SCAN_BYTES: u64 = 16 << 20;
const NON_BLOCKING_SCAN_BYTES: u64 = 1 << 20;
/// The maximum number of events that a non-blocking batch examines, which takes well below a
/// millisecond.
const NON_BLOCKING_EVENTS: u64 = 16 << 10;
/// The maximum number of events of one stream that a batch examines in search of matches.
const STREAM_SCAN_EVENTS: u64 = 4 << 10;

impl Filter<'_> {
    fn wants(&self, frame: &FrameView<'_>, event: u32) -> bool {
        let type_wanted = self.types.is_none()
            || frame
                .event(event)
                .is_some_and(|event| self.wants_type(event.event_type));
        type_wanted
            && (!self.restricts_streams()
                || frame
                    .event_stream(event)
                    .and_then(|stream| frame.stream(stream))
                    .is_some_and(|stream| self.wants_stream(stream.name)))
    }
}

/// Why a batch ends within a chunk.
enum End {
    /// The batch has reached a limit: of events, of bytes, or of examined events.
    Full,
    /// The frame doesn't contain the event at this position.
    MissingEvent(u64),
}

/// Collects the events of a batch.
struct Collector<'a> {
    query: &'a LogQuery<'a>,
    filtered: bool,
    events: Vec<Recorded>,
    bytes: usize,
    /// The lowest and the highest position of the query.
    lowest: u64,
    highest: u64,
    /// The last position that was examined.
    examined: u64,
    /// The number of events that may still be examined.
    left: u64,
}

impl<'a> Collector<'a> {
    fn new(query: &'a LogQuery<'a>, lowest: u64, highest: u64) -> Self {
        Self {
            query,
            filtered: !query.filter.is_empty(),
            events: Vec::new(),
            bytes: 0,
            lowest,
            highest,
            examined: if query.backward {
                highest.saturating_add(1)
            } else {
                query.after
            },
            left: match query.mode {
                ReadMode::Blocking => u64::MAX,
                ReadMode::NonBlocking => NON_BLOCKING_EVENTS,
            },
        }
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.query.limit || self.bytes > self.query.max_bytes || self.left == 0
    }

    fn is_at_end(&self) -> bool {
        if self.query.backward {
            self.examined <= self.lowest
        } else {
            self.examined >= self.highest
        }
    }

    /// Examine the events of a chunk in order, until the batch ends.
    fn chunk(&mut self, loaded: &Arc<LoadedChunk>) -> ControlFlow<End> {
        let frames = loaded.frames();
        let begin = frames
            .partition_point(|frame| frame.first_position + u64::from(frame.events) <= self.lowest);
        let end = frames.partition_point(|frame| frame.first_position <= self.highest);
        let mut wanted = frames.get(begin..end).unwrap_or_default().iter();
        if self.query.backward {
            wanted.rev().try_for_each(|at| self.frame(loaded, *at))
        } else {
            wanted.try_for_each(|at| self.frame(loaded, *at))
        }
    }

    fn frame(&mut self, loaded: &Arc<LoadedChunk>, at: FrameAt) -> ControlFlow<End> {
        let Some(view) = loaded.frame_from(at.offset) else {
            return ControlFlow::Break(End::MissingEvent(at.first_position));
        };
        let within = |position: u64| {
            let ordinal = position.saturating_sub(at.first_position);
            u32::try_from(ordinal).map_or(at.events, |ordinal| ordinal.min(at.events))
        };
        let mut wanted = within(self.lowest)..within(self.highest.saturating_add(1));
        if self.query.backward {
            wanted
                .rev()
                .try_for_each(|event| self.event(loaded, at, &view, event))
        } else {
            wanted.try_for_each(|event| self.event(loaded, at, &view, event))
        }
    }

    fn event(
        &mut self,
        loaded: &Arc<LoadedChunk>,
        at: FrameAt,
        view: &FrameView<'_>,
        event: u32,
    ) -> ControlFlow<End> {
        if self.is_full() {
            return ControlFlow::Break(End::Full);
        }
        let position = at.first_position + u64::from(event);
        if !self.filtered || self.query.filter.wants(view, event) {
            let Some(recorded) = Recorded::new(loaded, at.offset, view, event) else {
                return ControlFlow::Break(End::MissingEvent(position));
            };
            self.bytes += batch_bytes(&recorded);
            self.events.push(recorded);
        }
        self.left -= 1;
        self.examined = position;
        ControlFlow::Continue(())
    }

    /// Return the batch of a read that is pinned to `at`. `was_stopped` means that the scan has
    /// stopped at its limit, so that there may be more events.
    fn finish(self, at: u64, was_stopped: bool) -> ReadBatch {
        let is_empty = self.lowest > self.highest;
        let more = !is_empty && !self.is_at_end() && (was_stopped || self.is_full());
        let next = match (more, self.query.backward) {
            (true, _) => self.examined,
            (false, false) => self.highest.max(self.query.after),
            (false, true) => self.lowest.min(self.examined),
        };
        ReadBatch {
            events: self.events,
            next,
            more,
            at,
        }
    }
}

impl LiveLog {
    /// Read a batch of the log.
    pub(crate) fn read_log(&self, query: &LogQuery<'_>) -> Result<ReadBatch> {
        if let Some(stream) = query.filter.stream {
            return self.read_log_of_stream(query, stream);
        }
        let (at, first_chunk, lowest, highest) = {
            let index = self.index.read();
            let (at, lowest, highest) = span(&*index, query);
            let begin = if query.backward { highest } else { lowest };
            (at, index.chunks().of_position(begin), lowest, highest)
        };
        let mut collector = Collector::new(query, lowest, highest);
        let mut was_stopped = false;
        if let Some(first) = first_chunk
            && lowest <= highest
            && query.limit > 0
        {
            was_stopped = self.collect(&mut collector, first)?;
        }
        Ok(collector.finish(at, was_stopped))
    }

    /// Collect events chunk by chunk. Return whether the scan has stopped at its limit.
    fn collect(&self, collector: &mut Collector<'_>, first: usize) -> Result<bool> {
        let mode = collector.query.mode;
        let budget = if mode == ReadMode::NonBlocking {
            NON_BLOCKING_SCAN_BYTES
        } else {
            SCAN_BYTES
        };
        let mut chunks = Loader::new(self, mode);
        let mut scanned = 0;
        let mut next = Some(first);
        while let Some(i) = next {
            let Some(chunk) = self.chunk(i) else { break };
            if scanned > budget {
                return Ok(true);
            }
            let loaded = match chunks.chunk(chunk) {
                // Return the events that were collected before this chunk.
                Err(Error::WouldBlock) if scanned > 0 => return Ok(true),
                loaded => loaded?,
            };
            scanned += chunk.length;
            match collector.chunk(loaded) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(End::Full) => break,
                ControlFlow::Break(End::MissingEvent(position)) => {
                    return Err(self.missing_event(position, chunk));
                }
            }
            if collector.is_at_end() {
                break;
            }
            next = if collector.query.backward {
                i.checked_sub(1)
            } else {
                i.checked_add(1)
            };
        }
        Ok(false)
    }

    /// Read a batch of the log that has events of one stream only: the index has their positions,
    /// so the rest of the log is not scanned.
    fn read_log_of_stream(&self, query: &LogQuery<'_>, stream: &str) -> Result<ReadBatch> {
        names::check_stream(stream)?;
        let (at, lowest, highest, (candidates, mut was_stopped)) = {
            let index = self.index.read();
            let (at, lowest, highest) = span(&*index, query);
            let candidates = if lowest <= highest && query.filter.wants_stream(stream) {
                let stream_hash = self.hasher.stream(stream);
                candidates(&*index, query, stream_hash, (lowest, highest))
            } else {
                (Locations::new(), false)
            };
            (at, lowest, highest, candidates)
        };
        let mut collector = Collector::new(query, lowest, highest);
        let mut chunks = Loader::new(self, query.mode);
        for (position, chunk) in candidates {
            if collector.is_full() {
                was_stopped = true;
                break;
            }
            let loaded = match chunks.chunk(chunk) {
                // Return the events that were collected before this chunk.
                Err(Error::WouldBlock) if !collector.events.is_empty() => {
                    was_stopped = true;
                    break;
                }
                loaded => loaded?,
            };
            let event = ChunkReader::new(loaded).event(position);
            let recorded = event.ok_or_else(|| self.missing_event(position, chunk))?;
            if query.filter.wants_type(recorded.event_type()) {
                collector.bytes += batch_bytes(&recorded);
                collector.events.push(recorded);
            }
            collector.left -= 1;
            collector.examined = position;
        }
        Ok(collector.finish(at, was_stopped))
    }
}

/// Return the locations of a stream's events between two positions, in the order of the query, and
/// whether there are more of them than a batch examines.
fn candidates(
    index: &dyn Index,
    query: &LogQuery<'_>,
    stream_hash: u128,
    (lowest, highest): (u64, u64),
) -> (Locations, bool) {
    let first = index.version_at(stream_hash, lowest.saturating_sub(1)) + 1;
    let last = index.version_at(stream_hash, highest);
    let maximum = match query.filter.types {
        Some(_) => STREAM_SCAN_EVENTS,
        None => STREAM_SCAN_EVENTS.min(query.limit as u64),
    };
    let (first, last, has_more) = if (last + 1).saturating_sub(first) <= maximum {
        (first, last, false)
    } else if query.backward {
        (last + 1 - maximum, last, true)
    } else {
        (first, (first + maximum).saturating_sub(1), true)
    };
    let mut positions = Vec::new();
    if first <= last && query.limit > 0 {
        index.positions(stream_hash, first, last, &mut positions);
    }
    if query.backward {
        positions.reverse();
    }
    (locate(index, &positions), has_more)
}

/// Return the position to which the read is pinned, and the lowest and the highest position of the
/// query.
fn span(index: &dyn Index, query: &LogQuery<'_>) -> (u64, u64, u64) {
    let at = query.at.map_or(index.head(), |at| at.min(index.head()));
    let lowest = query.after.saturating_add(1);
    let highest = query
        .before
        .map_or(at, |before| before.saturating_sub(1).min(at));
    (at, lowest, highest)
}
