//! The streams and types of new events. They decide which waiters are woken.

use std::collections::HashMap;
use std::sync::Arc;

use super::loaded_chunk::LoadedChunk;

/// The streams and types that have events, each with the position of its last event.
pub(crate) type Sources<'a> = HashMap<(&'a str, &'a str), u64>;

/// The events between two positions, loaded.
pub(crate) struct NewEvents {
    /// The position before the first event.
    pub(crate) after: u64,
    /// The position of the last event.
    pub(crate) head: u64,
    pub(crate) chunks: Vec<Arc<LoadedChunk>>,
}

impl NewEvents {
    /// The streams and types of all events; `None` if a frame can't be read.
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
