//! The frame: the bytes of one commit on disk.
//!
//! The module is pure: functions between bytes and commits, without I/O. The committer encodes
//! frames with it; recovery and readers decode them. A valid frame in the log is the proof of its
//! commit. Three checks make a frame valid:
//!
//! * The CRC of the header. It is seeded with the store's secret and the frame's own address, so
//!   the length can be trusted before the body is read, and no payload can imitate a frame.
//! * The hash of the payload: the idempotency key, the events and their bodies.
//! * The chain: a hash over the header and the streams directory, where the header contains the
//!   chain of the previous frame. So a frame is valid only directly after the frame that preceded
//!   it when it was written. Without the chain, a frame that a dead process left after the end of
//!   the log could be taken for the next commit.
//!
//! | file | contents |
//! |---|---|
//! | `checksums` | the three checks: header CRC, payload hash, chain |
//! | `header` | the 80 bytes of the header: its fields and their offsets |
//! | `encode` | from a commit to bytes; the sizes of the parts after the header |
//! | `decode` | from bytes to a commit, validated |
//!
//! `docs/format.md` describes the layout.

mod checksums;
mod decode;
mod encode;
mod header;
#[cfg(test)]
mod tests;

pub(crate) use checksums::Seed;
pub(crate) use decode::{EventBytes, EventView, FrameOrigin, FrameView, StreamView};
pub(crate) use encode::{
    EVENT, Encoder, EncoderEvent, FrameBytes, FrameFields, StreamHead, sync_marker,
};
pub(crate) use header::{ALIGN, FRAME_LIMIT, HEADER, Header};
