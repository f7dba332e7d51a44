//! One event as a reader gets it.

use std::fmt;
use std::sync::Arc;

use super::chunk::LoadedChunk;
use crate::frame::{EventView, FrameView, StreamView};

/// A durable event: a share of verified log bytes, decoded field by field on access.
#[derive(Clone)]
pub struct Recorded {
    chunk: Arc<LoadedChunk>,
    frame: u32,
    event: u32,
}

impl Recorded {
    pub(super) fn new(chunk: Arc<LoadedChunk>, frame: u32, event: u32) -> Self {
        Self {
            chunk,
            frame,
            event,
        }
    }

    fn frame(&self) -> Option<FrameView<'_>> {
        FrameView::trusted(self.chunk.bytes().get(self.frame as usize..)?)
    }

    fn view(&self) -> Option<EventView<'_>> {
        self.frame()?.event(self.event)
    }

    fn stream_view(&self) -> Option<StreamView<'_>> {
        let frame = self.frame()?;
        frame.stream(frame.event_stream(self.event)?)
    }

    /// Its place in the global order.
    pub fn position(&self) -> u64 {
        self.frame()
            .map_or(0, |f| f.header().first_position + u64::from(self.event))
    }

    /// How many events its stream had with it.
    pub fn version(&self) -> u64 {
        let offset = self.view().map_or(0, |event| event.offset);
        self.stream_view()
            .map_or(0, |s| s.base_version + 1 + u64::from(offset))
    }

    /// Its stream's name.
    pub fn stream(&self) -> &str {
        self.stream_view().map_or("", |stream| stream.name)
    }

    /// Its type's name.
    pub fn event_type(&self) -> &str {
        self.view().map_or("", |event| event.event_type)
    }

    /// Its UUID, in network order.
    pub fn event_id(&self) -> [u8; 16] {
        self.view().map_or([0; 16], |event| event.event_id)
    }

    /// When it was committed, in microseconds since the Unix epoch.
    pub fn recorded_at_micros(&self) -> u64 {
        self.frame().map_or(0, |frame| frame.header().commit_time)
    }

    /// Its metadata, as given.
    pub fn metadata(&self) -> &[u8] {
        self.view().map_or(&[], |event| event.metadata)
    }

    /// Its body, as given.
    pub fn data(&self) -> &[u8] {
        self.view().map_or(&[], |event| event.data)
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded")
            .field("position", &self.position())
            .field("stream", &self.stream())
            .field("version", &self.version())
            .field("event_type", &self.event_type())
            .finish_non_exhaustive()
    }
}
