//! The header of a frame: its first 80 bytes. Its CRC is computed in `checksums`.

use super::checksums::Seed;
use crate::bytes::{put, u16_at, u32_at, u64_at};

/// The length of a frame's header in bytes.
pub(crate) const HEADER: usize = 80;
/// The alignment of frames in bytes.
pub(crate) const ALIGN: usize = 8;
/// The maximum length of a frame in bytes.
pub(crate) const FRAME_LIMIT: usize = 32 << 20;

const MAGIC: u32 = u32::from_le_bytes(*b"EBF1");

/// The fields of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The length of the whole frame in bytes, a multiple of [`ALIGN`].
    pub(crate) length: u32,
    pub(crate) flags: u32,
    pub(crate) events: u32,
    pub(crate) streams: u32,
    /// The length of the streams directory, which follows the header.
    pub(crate) streams_length: u32,
    /// The length of the idempotency key; 0 if there is none.
    pub(crate) key_length: u16,
    /// The position of the first event. In a frame without events it is the position that the next
    /// event gets.
    pub(crate) first_position: u64,
    /// The chain of the frame before this one.
    pub(crate) previous_chain: u64,
    /// An address below which the log was known to be durable when this frame was written.
    /// Recovery uses it as evidence.
    pub(crate) durable_hint: u64,
    /// Microseconds since the Unix epoch.
    pub(crate) commit_time: u64,
    pub(crate) payload_hash: u64,
    /// A random number of the session that wrote the frame.
    pub(crate) writer_epoch: u64,
}

impl Header {
    /// Encode the header into the first bytes of a frame.
    pub(crate) fn write(&self, frame: &mut [u8], seed: Seed, address: u64) {
        put(frame, 0, &MAGIC.to_le_bytes());
        put(frame, 8, &self.length.to_le_bytes());
        put(frame, 12, &self.flags.to_le_bytes());
        put(frame, 16, &self.events.to_le_bytes());
        put(frame, 20, &self.streams.to_le_bytes());
        put(frame, 24, &self.streams_length.to_le_bytes());
        put(frame, 28, &self.key_length.to_le_bytes());
        put(frame, 30, &[0, 0]);
        put(frame, 32, &self.first_position.to_le_bytes());
        put(frame, 40, &self.previous_chain.to_le_bytes());
        put(frame, 48, &self.durable_hint.to_le_bytes());
        put(frame, 56, &self.commit_time.to_le_bytes());
        put(frame, 64, &self.payload_hash.to_le_bytes());
        put(frame, 72, &self.writer_epoch.to_le_bytes());
        let crc = seed.header_crc(address, checked(frame));
        put(frame, 4, &crc.to_le_bytes());
    }

    /// Whether the bytes begin with the magic number of a header. Other data may begin with the
    /// same bytes: the test only skips most offsets cheaply.
    pub(crate) fn begins(bytes: &[u8]) -> bool {
        u32_at(bytes, 0) == Some(MAGIC)
    }

    /// Decode the header at `address`. Return `None` unless its CRC proves that this store wrote
    /// the header at this address.
    pub(crate) fn read(bytes: &[u8], seed: Seed, address: u64) -> Option<Self> {
        if u32_at(bytes, 0)? != MAGIC || bytes.len() < HEADER {
            return None;
        }
        if u32_at(bytes, 4)? != seed.header_crc(address, checked(bytes)) {
            return None;
        }
        Self::decode(bytes).filter(Self::has_valid_length)
    }

    /// Decode a header without validating it.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            length: u32_at(bytes, 8)?,
            flags: u32_at(bytes, 12)?,
            events: u32_at(bytes, 16)?,
            streams: u32_at(bytes, 20)?,
            streams_length: u32_at(bytes, 24)?,
            key_length: u16_at(bytes, 28)?,
            first_position: u64_at(bytes, 32)?,
            previous_chain: u64_at(bytes, 40)?,
            durable_hint: u64_at(bytes, 48)?,
            commit_time: u64_at(bytes, 56)?,
            payload_hash: u64_at(bytes, 64)?,
            writer_epoch: u64_at(bytes, 72)?,
        })
    }

    fn has_valid_length(&self) -> bool {
        let length = self.length as usize;
        length.is_multiple_of(ALIGN) && (HEADER..=FRAME_LIMIT).contains(&length)
    }

    /// The position after this frame's last event.
    pub(crate) fn next_position(&self) -> u64 {
        self.first_position.saturating_add(u64::from(self.events))
    }
}

/// Return the bytes of a header that its CRC covers: all after the magic number and the CRC.
fn checked(header: &[u8]) -> &[u8] {
    header.get(8..HEADER).unwrap_or_default()
}
