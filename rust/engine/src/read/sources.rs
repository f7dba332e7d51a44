//! The streams and types of new events, without the events: what decides whom they wake.

use std::collections::HashMap;
use std::sync::Arc;

use super::chunk::LoadedChunk;
use super::query::Effort;
use crate::index::Index as _;
use crate::live::LiveLog;

/// Each stream and type that has events, with the position of the last of them.
pub(crate) type Sources<'a> = HashMap<(&'a str, &'a str), u64>;

/// How many events are scanned at most, and how many bytes are read of the log for it. A
/// commit costs several times as much as the scan of what it wrote.
const MAX_EVENTS: u64 = 16 << 10;
const MAX_BYTES: u64 = 1 << 20;

/// A stretch of the log, loaded.
pub(crate) struct Stretch {
    after: u64,
    head: u64,
    chunks: Vec<Arc<LoadedChunk>>,
}

impl Stretch {
    /// The position of its last event.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The sources of all its events; `None` if a frame can't be read.
    pub(crate) fn sources(&self) -> Option<Sources<'_>> {
        let mut sources = Sources::new();
        for chunk in &self.chunks {
            for at in chunk.frames() {
                let frame = chunk.frame_from(at.offset)?;
                let positions = at.first_position..at.first_position + u64::from(at.events);
                for (event, position) in (0..at.events).zip(positions) {
                    if self.after < position && position <= self.head {
                        let stream = frame.stream(frame.event_stream(event)?)?.name;
                        let event_type = frame.event(event)?.event_type;
                        sources.insert((stream, event_type), position);
                    }
                }
            }
        }
        Some(sources)
    }
}

impl LiveLog {
    /// Loads the events after one position and up to another; `None` where they are many, or
    /// where the read fails: the next read of them reports the error.
    pub(crate) fn stretch(&self, after: u64, head: u64, effort: Effort) -> Option<Stretch> {
        if head.saturating_sub(after) > MAX_EVENTS {
            return None;
        }
        let mut stretch = Stretch {
            after,
            head,
            chunks: Vec::new(),
        };
        if head <= after {
            return Some(stretch);
        }
        let (first, last) = {
            let index = self.index.read();
            if index.head() < head {
                return None;
            }
            let chunks = index.chunks();
            (chunks.of_position(after + 1)?, chunks.of_position(head)?)
        };
        let mut left = MAX_BYTES;
        for i in first..=last {
            let chunk = self.chunk(i)?;
            left = left.checked_sub(self.missing(chunk))?;
            stretch.chunks.push(self.load(chunk, effort).ok()?);
        }
        Some(stretch)
    }
}
