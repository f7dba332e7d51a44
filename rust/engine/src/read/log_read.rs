//! Reads of the log by position, filtered.

use super::chunk_reader::Picker;
use super::query::{LogQuery, Page};
use super::recorded_event::{Recorded, page_bytes};
use super::stream_read::{Places, places};
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

/// How much log one page may scan in search of matches, in bytes.
const SCAN: u64 = 16 << 20;
const SCAN_INLINE: u64 = 1 << 20;
/// How many events an inline page may look at: well below a millisecond's work.
const LOOKED_AT_INLINE: u64 = 16 << 10;
/// How many events of one stream a page looks at in search of matches.
const STREAM_SCAN: u64 = 4 << 10;

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

/// Why a page ends within a chunk.
enum End {
    /// It has as many events as it may, or has looked at as many.
    Full,
    /// The frame does not have the event at this position.
    Lost(u64),
}

/// A page in the making.
struct Collector<'a> {
    query: &'a LogQuery<'a>,
    filtered: bool,
    events: Vec<Recorded>,
    bytes: usize,
    /// Lowest and highest position wanted.
    lowest: u64,
    highest: u64,
    /// The last position looked at.
    seen: u64,
    /// How many more events may be looked at.
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
            seen: if query.backward {
                highest.saturating_add(1)
            } else {
                query.after
            },
            left: match query.mode {
                ReadMode::Blocking => u64::MAX,
                ReadMode::NonBlocking => LOOKED_AT_INLINE,
            },
        }
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.query.limit || self.bytes > self.query.max_bytes || self.left == 0
    }

    fn is_at_end(&self) -> bool {
        if self.query.backward {
            self.seen <= self.lowest
        } else {
            self.seen >= self.highest
        }
    }

    /// Looks at every event of a chunk, in order, until the page ends.
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
            return ControlFlow::Break(End::Lost(at.first_position));
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
                return ControlFlow::Break(End::Lost(position));
            };
            self.bytes += page_bytes(&recorded);
            self.events.push(recorded);
        }
        self.left -= 1;
        self.seen = position;
        ControlFlow::Continue(())
    }

    /// The page, of a read that is pinned to `at` and has looked at enough where it is bounded.
    fn page(self, at: u64, bounded: bool) -> Page {
        let is_empty = self.lowest > self.highest;
        let more = !is_empty && !self.is_at_end() && (bounded || self.is_full());
        let next = match (more, self.query.backward) {
            (true, _) => self.seen,
            (false, false) => self.highest.max(self.query.after),
            (false, true) => self.lowest.min(self.seen),
        };
        Page {
            events: self.events,
            next,
            more,
            at,
        }
    }
}

impl LiveLog {
    /// A page of the log.
    pub(crate) fn read_log(&self, query: &LogQuery<'_>) -> Result<Page> {
        if let Some(stream) = query.filter.stream {
            return self.read_log_of_stream(query, stream);
        }
        let (at, first_chunk, lowest, highest) = {
            let index = self.index.read();
            let (at, lowest, highest) = span(&*index, query);
            let begin = if query.backward { highest } else { lowest };
            (at, index.chunks().of_position(begin), lowest, highest)
        };
        let mut page = Collector::new(query, lowest, highest);
        let mut bounded = false;
        if let Some(first) = first_chunk
            && lowest <= highest
            && query.limit > 0
        {
            bounded = self.collect(&mut page, first)?;
        }
        Ok(page.page(at, bounded))
    }

    /// Goes from chunk to chunk; answers whether it stopped because it had scanned enough.
    fn collect(&self, page: &mut Collector<'_>, first: usize) -> Result<bool> {
        let mode = page.query.mode;
        let budget = if mode == ReadMode::NonBlocking {
            SCAN_INLINE
        } else {
            SCAN
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
                // What was found so far is a page of its own.
                Err(Error::WouldBlock) if scanned > 0 => return Ok(true),
                loaded => loaded?,
            };
            scanned += chunk.length;
            match page.chunk(loaded) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(End::Full) => break,
                ControlFlow::Break(End::Lost(position)) => return Err(self.lost(position, chunk)),
            }
            if page.is_at_end() {
                break;
            }
            next = if page.query.backward {
                i.checked_sub(1)
            } else {
                i.checked_add(1)
            };
        }
        Ok(false)
    }

    /// A page of the events of one stream, by position: the index says where they are.
    fn read_log_of_stream(&self, query: &LogQuery<'_>, stream: &str) -> Result<Page> {
        names::check_stream(stream)?;
        let (at, lowest, highest, (candidates, mut bounded)) = {
            let index = self.index.read();
            let (at, lowest, highest) = span(&*index, query);
            let candidates = if lowest <= highest && query.filter.wants_stream(stream) {
                let key = self.hasher.stream(stream);
                candidates(&*index, query, key, (lowest, highest))
            } else {
                (Places::new(), false)
            };
            (at, lowest, highest, candidates)
        };
        let mut page = Collector::new(query, lowest, highest);
        let mut chunks = Loader::new(self, query.mode);
        for (position, chunk) in candidates {
            if page.is_full() {
                bounded = true;
                break;
            }
            let loaded = match chunks.chunk(chunk) {
                // What was found so far is a page of its own.
                Err(Error::WouldBlock) if !page.events.is_empty() => {
                    bounded = true;
                    break;
                }
                loaded => loaded?,
            };
            let found = Picker::new(loaded).event(position);
            let recorded = found.ok_or_else(|| self.lost(position, chunk))?;
            if query.filter.wants_type(recorded.event_type()) {
                page.bytes += page_bytes(&recorded);
                page.events.push(recorded);
            }
            page.left -= 1;
            page.seen = position;
        }
        Ok(page.page(at, bounded))
    }
}

/// Where the events of a stream are within a span of positions, in the order of the query, and
/// whether there are more than a page looks at.
fn candidates(
    index: &dyn Index,
    query: &LogQuery<'_>,
    stream: u128,
    (lowest, highest): (u64, u64),
) -> (Places, bool) {
    let first = index.version_at(stream, lowest.saturating_sub(1)) + 1;
    let last = index.version_at(stream, highest);
    let most = match query.filter.types {
        Some(_) => STREAM_SCAN,
        None => STREAM_SCAN.min(query.limit as u64),
    };
    let (first, last, bounded) = if (last + 1).saturating_sub(first) <= most {
        (first, last, false)
    } else if query.backward {
        (last + 1 - most, last, true)
    } else {
        (first, (first + most).saturating_sub(1), true)
    };
    let mut positions = Vec::new();
    if first <= last && query.limit > 0 {
        index.positions(stream, first, last, &mut positions);
    }
    if query.backward {
        positions.reverse();
    }
    (places(index, &positions), bounded)
}

/// What the read is pinned to, and the lowest and the highest position that it wants.
fn span(index: &dyn Index, query: &LogQuery<'_>) -> (u64, u64, u64) {
    let at = query.at.map_or(index.head(), |at| at.min(index.head()));
    let lowest = query.after.saturating_add(1);
    let highest = query
        .before
        .map_or(at, |before| before.saturating_sub(1).min(at));
    (at, lowest, highest)
}
