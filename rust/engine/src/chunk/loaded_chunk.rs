//! A chunk of the log in memory, and the frames in it.

use std::fmt;

use crate::frame::{FrameOrigin, FrameView, Seed};

/// A chunk whose frames are verified.
pub(crate) struct LoadedChunk {
    pub(crate) address: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: Vec<FrameAt>,
}

/// The place of a frame in a chunk, and the events that it contains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameAt {
    pub(crate) offset: u32,
    pub(crate) first_position: u64,
    pub(crate) events: u32,
}

impl FrameAt {
    /// The ordinal of the event at a position, if the frame contains it.
    pub(crate) fn ordinal(&self, position: u64) -> Option<u32> {
        let ordinal = u32::try_from(position.checked_sub(self.first_position)?).ok()?;
        (ordinal < self.events).then_some(ordinal)
    }
}

impl LoadedChunk {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn frames(&self) -> &[FrameAt] {
        &self.frames
    }

    /// The frame that contains the event at a position; the last one for a position after the
    /// chunk.
    pub(crate) fn locate(&self, position: u64) -> Option<FrameAt> {
        let i = self
            .frames
            .partition_point(|f| f.first_position <= position)
            .checked_sub(1)?;
        self.frames.get(i).copied()
    }

    /// The frame that begins at an address.
    pub(crate) fn frame_at(&self, address: u64) -> Option<FrameView<'_>> {
        let offset = u32::try_from(address.checked_sub(self.address)?).ok()?;
        self.frame_from(offset)
    }

    /// The frame that begins at an offset in the chunk.
    pub(crate) fn frame_from(&self, offset: u32) -> Option<FrameView<'_>> {
        FrameView::trusted(self.bytes.get(offset as usize..)?)
    }

    /// The stream of the event at a position.
    pub(crate) fn stream_of(&self, position: u64) -> Option<&str> {
        let at = self.locate(position)?;
        let frame = self.frame_from(at.offset)?;
        Some(
            frame
                .stream(frame.event_stream(at.ordinal(position)?)?)?
                .name,
        )
    }

    /// Verify the bytes from `from` on and add their frames. The error is the address of the first
    /// invalid frame, and why it is invalid.
    pub(crate) fn verify(
        &mut self,
        from: usize,
        seed: Seed,
    ) -> std::result::Result<(), (u64, &'static str)> {
        let mut offset = from;
        while offset < self.bytes.len() {
            let address = self.address + offset as u64;
            let bytes = self.bytes.get(offset..).unwrap_or_default();
            let frame = FrameView::check(bytes, FrameOrigin { seed, address })
                .map_err(|reason| (address, reason))?;
            let header = *frame.header();
            self.frames.push(FrameAt {
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
                first_position: header.first_position,
                events: header.events,
            });
            offset += header.length as usize;
        }
        Ok(())
    }
}

impl fmt::Debug for LoadedChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedChunk")
            .field("address", &self.address)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}
