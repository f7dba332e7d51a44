//! The header of a segment's file, and the place of the segment in the log.
//!
//! The first part is in every header. A continuation segment, which was created after a failed
//! sync, has a second part that records where the log was cut. Each part has its own CRC over
//! everything before it.

use std::io;

use crate::bytes::{array, put, u32_at, u64_at};
use crate::format_version::FORMAT;
use crate::vfs::{VfsFile, read_full};

/// Bytes of a segment's file before the first frame.
pub(crate) const SEGMENT_HEADER: u64 = 4096;

const MAGIC: &[u8; 8] = b"EBSEGMT\n";
/// The length of the first part, after which its CRC follows.
const FIRST_PART: usize = 56;
/// The length of both parts, after which the second CRC follows.
const BOTH_PARTS: usize = 80;
/// The flag of a header with a second part.
const CONTINUATION: u32 = 1;

/// One segment as the manifest lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) ordinal: u64,
    pub(crate) base: u64,
    pub(crate) capacity: u64,
}

impl SegmentEntry {
    /// The address after the last byte; `None` if it would exceed 64 bits.
    pub(crate) fn end(&self) -> Option<u64> {
        self.base.checked_add(self.capacity)
    }
}

/// Where the log was cut after a failed sync, to continue in a new segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutPoint {
    /// The end of the last durable frame. What earlier segments contain from this address on is
    /// not part of the log.
    pub(crate) address: u64,
    /// The chain of that frame.
    pub(crate) chain: u64,
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: [u8; 16],
    pub(crate) entry: SegmentEntry,
    /// The cut that a continuation segment continues from; `None` for a segment that was created
    /// because the one before it was full.
    pub(crate) continues_from: Option<CutPoint>,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT_HEADER.try_into().unwrap_or(4096)];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &FORMAT.to_le_bytes());
        let flags = self.continues_from.map_or(0, |_| CONTINUATION);
        put(&mut bytes, 12, &flags.to_le_bytes());
        put(&mut bytes, 16, &self.store);
        put(&mut bytes, 32, &self.entry.ordinal.to_le_bytes());
        put(&mut bytes, 40, &self.entry.base.to_le_bytes());
        put(&mut bytes, 48, &self.entry.capacity.to_le_bytes());
        let crc = crc32c::crc32c(bytes.get(..FIRST_PART).unwrap_or_default());
        put(&mut bytes, FIRST_PART, &crc.to_le_bytes());
        if let Some(cut) = &self.continues_from {
            put(&mut bytes, 64, &cut.address.to_le_bytes());
            put(&mut bytes, 72, &cut.chain.to_le_bytes());
            let crc = crc32c::crc32c(bytes.get(..BOTH_PARTS).unwrap_or_default());
            put(&mut bytes, BOTH_PARTS, &crc.to_le_bytes());
        }
        bytes
    }

    /// Read the bytes of a file's header, without validating them.
    pub(crate) fn read(file: &dyn VfsFile) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(SEGMENT_HEADER).unwrap_or_default()];
        let read = read_full(file, &mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Return the format of a valid header that is newer than this build can read.
    pub(crate) fn newer_format(bytes: &[u8]) -> Option<u32> {
        let format = u32_at(bytes, 8)?;
        let is_valid = bytes.get(..8)? == MAGIC && has_valid_crc(bytes, FIRST_PART)?;
        (is_valid && format > FORMAT).then_some(format)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..8)? != MAGIC || !has_valid_crc(bytes, FIRST_PART)? {
            return None;
        }
        let entry = SegmentEntry {
            ordinal: u64_at(bytes, 32)?,
            base: u64_at(bytes, 40)?,
            capacity: u64_at(bytes, 48)?,
        };
        let is_plausible = entry.capacity > SEGMENT_HEADER && entry.end().is_some();
        if !is_plausible || u32_at(bytes, 8)? > FORMAT {
            return None;
        }
        let continues_from = match u32_at(bytes, 12)? {
            0 => None,
            CONTINUATION if has_valid_crc(bytes, BOTH_PARTS)? => Some(CutPoint {
                address: u64_at(bytes, 64)?,
                chain: u64_at(bytes, 72)?,
            }),
            _ => return None,
        };
        Some(Self {
            store: array(bytes, 16)?,
            entry,
            continues_from,
        })
    }
}

/// Whether the first `length` bytes are followed by their CRC.
fn has_valid_crc(bytes: &[u8], length: usize) -> Option<bool> {
    Some(u32_at(bytes, length)? == crc32c::crc32c(bytes.get(..length)?))
}
