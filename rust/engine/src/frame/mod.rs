//! The frame: one commit on disk. Pure functions between bytes and commits.
//!
//! A frame is valid when three things hold. The header's CRC, seeded with the store's secret
//! and the frame's own address, makes its length trustworthy before the body is touched, and
//! keeps any payload from passing for a frame. The hash over key, events and bodies covers
//! the payload. The chain, carried from the frame before, ties it to its only predecessor:
//! without it, frames that a dead process left behind could be taken for history.
//!
//! The layout stands in `docs/format.md`.

mod encode;
mod header;
mod layout;
mod view;

pub(crate) use encode::{Encoder, EncoderEvent, FrameBytes, FrameFields, StreamHead, sync_marker};
pub(crate) use header::{ALIGN, FRAME_LIMIT, HEADER, Header, Seed};
pub(crate) use layout::EVENT;
pub(crate) use view::{EventBytes, EventView, FrameView, StreamView, Truth};
