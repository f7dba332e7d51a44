//! Reads of the log by position, filtered.

use super::chunk::LoadedChunk;
use super::query::{Effort, Filter, LogQuery, Page};
use super::recorded::Recorded;
use crate::error::Result;
use crate::frame::FrameView;
use crate::index::Index;
use crate::live::LiveLog;
use crate::names;
use std::sync::Arc;

/// How much log one page may scan in search of matches, in bytes.
const SCAN: u64 = 16 << 20;
const SCAN_INLINE: u64 = 1 << 20;

impl Filter<'_> {
    fn is_empty(&self) -> bool {
        self.prefix.is_none() && self.category.is_none() && self.types.is_none()
    }

    fn wants_stream(&self, stream: &str) -> bool {
        self.prefix
            .is_none_or(|prefix| stream.as_bytes().starts_with(prefix.as_bytes()))
            && self
                .category
                .is_none_or(|category| names::category(stream) == category)
    }

    fn wants(&self, frame: &FrameView<'_>, event: u32) -> bool {
        let type_wanted = self.types.is_none_or(|types| {
            frame
                .event(event)
                .is_some_and(|event| types.contains(&event.event_type))
        });
        type_wanted
            && frame
                .event_stream(event)
                .and_then(|stream| frame.stream(stream))
                .is_some_and(|stream| self.wants_stream(stream.name))
    }
}

/// A page in the making.
struct Collector<'a> {
    query: &'a LogQuery<'a>,
    events: Vec<Recorded>,
    bytes: usize,
    /// Lowest and highest position wanted.
    lowest: u64,
    highest: u64,
    /// The last position looked at.
    seen: u64,
}

impl Collector<'_> {
    fn is_full(&self) -> bool {
        self.events.len() >= self.query.limit || self.bytes > self.query.max_bytes
    }

    /// Looks at every event of a chunk, in order; `false` when the page is complete.
    fn chunk(&mut self, loaded: &Arc<LoadedChunk>) -> bool {
        let frames = loaded.frames();
        if self.query.backward {
            let begin = frames.partition_point(|frame| frame.first_position <= self.highest);
            let own = frames.get(..begin).unwrap_or_default();
            own.iter().rev().all(|at| {
                (0..at.events)
                    .rev()
                    .all(|event| self.event(loaded, at.offset, at.first_position, event))
            })
        } else {
            let begin = frames.partition_point(|frame| {
                frame.first_position + u64::from(frame.events) <= self.lowest
            });
            let own = frames.get(begin..).unwrap_or_default();
            own.iter().all(|at| {
                (0..at.events).all(|event| self.event(loaded, at.offset, at.first_position, event))
            })
        }
    }

    fn event(&mut self, loaded: &Arc<LoadedChunk>, frame: u32, first: u64, event: u32) -> bool {
        let position = first + u64::from(event);
        let before = if self.query.backward {
            position > self.highest
        } else {
            position < self.lowest
        };
        if before {
            return true;
        }
        if position < self.lowest || position > self.highest || self.is_full() {
            return false;
        }
        let filter = &self.query.filter;
        let wanted = filter.is_empty()
            || FrameView::trusted(loaded.bytes().get(frame as usize..).unwrap_or_default())
                .is_some_and(|view| filter.wants(&view, event));
        if wanted {
            let recorded = Recorded::new(Arc::clone(loaded), frame, event);
            if self.query.max_bytes < usize::MAX {
                self.bytes += recorded.data().len();
            }
            self.events.push(recorded);
        }
        self.seen = position;
        true
    }
}

impl LiveLog {
    /// A page of the log.
    pub(crate) fn read_log(&self, query: &LogQuery<'_>) -> Result<Page> {
        let (at, first_chunk, lowest, highest) = {
            let index = self.index.read();
            let at = query.at.map_or(index.head(), |at| at.min(index.head()));
            let lowest = query.after.saturating_add(1);
            let highest = query
                .before
                .map_or(at, |before| before.saturating_sub(1).min(at));
            let begin = if query.backward { highest } else { lowest };
            (at, index.chunks().of_position(begin), lowest, highest)
        };
        let seen = if query.backward {
            highest.saturating_add(1)
        } else {
            query.after
        };
        let mut page = Collector {
            query,
            events: Vec::new(),
            bytes: 0,
            lowest,
            highest,
            seen,
        };
        let mut bounded = false;
        if let Some(first) = first_chunk
            && lowest <= highest
            && query.limit > 0
        {
            bounded = self.collect(&mut page, first)?;
        }
        let end = if query.backward {
            page.seen <= lowest
        } else {
            page.seen >= highest
        };
        let more = lowest <= highest && !end && (bounded || page.is_full());
        let next = match (more, query.backward) {
            (true, _) => page.seen,
            (false, false) => highest.max(query.after),
            (false, true) => lowest.min(page.seen),
        };
        Ok(Page {
            events: page.events,
            next,
            more,
            at,
        })
    }

    /// Goes from chunk to chunk; answers whether it stopped because it had scanned enough.
    fn collect(&self, page: &mut Collector<'_>, first: usize) -> Result<bool> {
        let effort = page.query.effort;
        let budget = if effort == Effort::Inline {
            SCAN_INLINE
        } else {
            SCAN
        };
        let mut scanned = 0;
        let mut next = Some(first);
        while let Some(i) = next {
            let Some(chunk) = self.chunk(i) else { break };
            if scanned > budget {
                return Ok(true);
            }
            let loaded = self.load(chunk, effort)?;
            scanned += chunk.length;
            if !page.chunk(&loaded) {
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
}
