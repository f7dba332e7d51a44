//! Events taken out of a chunk.

use std::sync::Arc;

use super::recorded_event::Recorded;
use crate::chunk::{FrameAt, LoadedChunk};
use crate::frame::FrameView;

/// Takes events out of one chunk; neighbours in a frame need the frame's header only once.
pub(super) struct Picker<'a> {
    chunk: &'a Arc<LoadedChunk>,
    frame: Option<(FrameAt, FrameView<'a>)>,
}

impl<'a> Picker<'a> {
    pub(super) fn new(chunk: &'a Arc<LoadedChunk>) -> Self {
        Self { chunk, frame: None }
    }

    /// The event at a position, if the chunk holds it.
    pub(super) fn event(&mut self, position: u64) -> Option<Recorded> {
        let known = self.frame.filter(|(at, _)| at.ordinal(position).is_some());
        let (at, view) = if let Some(known) = known {
            known
        } else {
            let at = self.chunk.locate(position)?;
            (at, self.chunk.frame_from(at.offset)?)
        };
        self.frame = Some((at, view));
        Recorded::new(self.chunk, at.offset, &view, at.ordinal(position)?)
    }
}
