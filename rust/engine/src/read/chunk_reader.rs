//! Reads single events from a chunk.

use std::sync::Arc;

use super::recorded_event::Recorded;
use crate::chunk::{FrameAt, LoadedChunk};
use crate::frame::FrameView;

/// Reads events from one chunk. It keeps the last frame, so that the header is decoded only once
/// for consecutive events of a frame.
pub(super) struct ChunkReader<'a> {
    chunk: &'a Arc<LoadedChunk>,
    frame: Option<(FrameAt, FrameView<'a>)>,
}

impl<'a> ChunkReader<'a> {
    pub(super) fn new(chunk: &'a Arc<LoadedChunk>) -> Self {
        Self { chunk, frame: None }
    }

    /// Return the event at a position, if the chunk contains it.
    pub(super) fn event(&mut self, position: u64) -> Option<Recorded> {
        let current = self.frame.filter(|(at, _)| at.ordinal(position).is_some());
        let (at, view) = if let Some(current) = current {
            current
        } else {
            let at = self.chunk.locate(position)?;
            (at, self.chunk.frame_from(at.offset)?)
        };
        self.frame = Some((at, view));
        Recorded::new(self.chunk, at.offset, &view, at.ordinal(position)?)
    }
}
