//! The streams and types of new events, without the events: they decide which waiters wake.

use std::collections::HashMap;
use std::sync::Arc;

use super::loaded_chunk::LoadedChunk;

/// Each stream and type that has events, with the position of the last of them.
pub(crate) type Sources<'a> = HashMap<(&'a str, &'a str), u64>;

/// A stretch of the log, loaded.
pub(crate) struct Stretch {
    /// Only events after this position.
    pub(crate) after: u64,
    /// The position of its last event.
    pub(crate) head: u64,
    pub(crate) chunks: Vec<Arc<LoadedChunk>>,
}

impl Stretch {
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
