//! The three checksums of a frame: the CRC of its header, the hash of its payload, and the chain
//! that ties it to the previous frame.
//!
//! The header contains the first two and the chain of the previous frame, the trailer the chain of
//! this one. `header` and `encode` write them, `header` and `decode` compare them.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

/// The seed of the headers' CRC, derived from the secret of the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(secret: &[u8; 16]) -> Self {
        Self(crc32c::crc32c(secret))
    }

    /// Compute the CRC of the header of the frame at `address`. `checked` are the bytes of the
    /// header after the magic number and the CRC itself.
    pub(super) fn header_crc(self, address: u64, checked: &[u8]) -> u32 {
        let seeded = crc32c::crc32c_append(self.0, &address.to_le_bytes());
        crc32c::crc32c_append(seeded, checked)
    }
}

/// Compute the hash of a payload: the idempotency key, the events and their bodies.
pub(super) fn payload_hash(payload: &[u8]) -> u64 {
    xxh3_64(payload)
}

/// Compute the chain of a frame: the hash of its header and its streams directory. The header
/// contains the chain of the previous frame, so the hash depends on the whole log before it.
pub(super) fn chain(frame: &[u8], header_and_streams: Range<usize>) -> u64 {
    xxh3_64(frame.get(8..header_and_streams.end).unwrap_or_default())
}
