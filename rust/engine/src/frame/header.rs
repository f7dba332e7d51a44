//! The first 80 bytes of a frame.

use crate::bytes::{put, u16_at, u32_at, u64_at};

/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 80;
/// Frames begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// Bytes of a whole frame, at most.
pub(crate) const FRAME_LIMIT: usize = 32 << 20;

const MAGIC: u32 = u32::from_le_bytes(*b"EBF1");

/// What the header CRC is seeded with: the secret of the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(secret: &[u8; 16]) -> Self {
        Self(crc32c::crc32c(secret))
    }

    fn crc(self, address: u64, header: &[u8]) -> u32 {
        let seeded = crc32c::crc32c_append(self.0, &address.to_le_bytes());
        crc32c::crc32c_append(seeded, header.get(8..HEADER).unwrap_or_default())
    }
}

/// The header's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the whole frame, a multiple of [`ALIGN`].
    pub(crate) length: u32,
    pub(crate) flags: u32,
    pub(crate) events: u32,
    pub(crate) streams: u32,
    /// Bytes of the streams directory, which follows the header.
    pub(crate) streams_length: u32,
    /// Bytes of the idempotency key, 0 = none.
    pub(crate) key_length: u16,
    /// Position of the first event, or of the next commit's when this one has no events.
    pub(crate) first_position: u64,
    pub(crate) previous_chain: u64,
    /// An address that was known to be durable when this frame was written.
    pub(crate) durable_hint: u64,
    /// Microseconds since the Unix epoch.
    pub(crate) commit_time: u64,
    pub(crate) payload_hash: u64,
    pub(crate) writer_epoch: u64,
}

impl Header {
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
        let crc = seed.crc(address, frame);
        put(frame, 4, &crc.to_le_bytes());
    }

    /// Whether the bytes begin as a header does. Much else may, too.
    pub(crate) fn begins(bytes: &[u8]) -> bool {
        u32_at(bytes, 0) == Some(MAGIC)
    }

    /// Reads a header that stands at `address`; `None` unless its CRC says that it was
    /// written there, by this store.
    pub(crate) fn read(bytes: &[u8], seed: Seed, address: u64) -> Option<Self> {
        if u32_at(bytes, 0)? != MAGIC || bytes.len() < HEADER {
            return None;
        }
        if u32_at(bytes, 4)? != seed.crc(address, bytes) {
            return None;
        }
        Self::decode(bytes).filter(Self::is_sound)
    }

    /// Reads a header without judging it.
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

    fn is_sound(&self) -> bool {
        let length = self.length as usize;
        length.is_multiple_of(ALIGN) && (HEADER..=FRAME_LIMIT).contains(&length)
    }

    /// The position after this frame's last event.
    pub(crate) fn next_position(&self) -> u64 {
        self.first_position.saturating_add(u64::from(self.events))
    }
}
