//! The parts of a frame after its header, and the chain that ties it to the frame before.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of one entry of the streams directory.
pub(super) const STREAM: usize = 32;
/// Bytes of one entry of the events directory.
pub(crate) const EVENT: usize = 40;
/// Bytes after the bodies: chain, length, magic.
pub(super) const TRAILER: usize = 16;
pub(super) const TRAILER_MAGIC: u32 = u32::from_le_bytes(*b"EBT1");

/// The hash over header and streams directory; the header holds the chain before it.
pub(super) fn chain(frame: &[u8], header_and_streams: Range<usize>) -> u64 {
    xxh3_64(frame.get(8..header_and_streams.end).unwrap_or_default())
}
