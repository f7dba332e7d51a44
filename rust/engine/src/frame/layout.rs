//! The parts of a frame after its header, and the chain that ties it to the previous frame.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

/// The length of an entry of the streams directory in bytes.
pub(super) const STREAM: usize = 32;
/// The length of an entry of the events directory in bytes.
pub(crate) const EVENT: usize = 40;
/// The length of the trailer after the bodies: chain, length, magic number.
pub(super) const TRAILER: usize = 16;
pub(super) const TRAILER_MAGIC: u32 = u32::from_le_bytes(*b"EBT1");

/// Compute the chain of a frame: the hash of its header and its streams directory. The header
/// contains the chain of the previous frame, so the hash depends on the whole log before it.
pub(super) fn chain(frame: &[u8], header_and_streams: Range<usize>) -> u64 {
    xxh3_64(frame.get(8..header_and_streams.end).unwrap_or_default())
}
