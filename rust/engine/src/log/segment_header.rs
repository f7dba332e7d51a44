//! The header of a segment file, and the segment's place in the log.

use std::io;

use crate::bytes::{array, put, u32_at, u64_at};
use crate::format::FORMAT;
use crate::vfs::{VfsFile, read_full};

/// Bytes before the first frame.
pub(crate) const SEGMENT_HEADER: u64 = 4096;

const MAGIC: &[u8; 8] = b"EBSEGMT\n";
const CHECKED: usize = 56;
/// The flag of a header with a second part, which says what the segment goes on from.
const SEALING: u32 = 1;
const SEALED: usize = 80;
/// One segment as the manifest lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) ordinal: u64,
    pub(crate) base: u64,
    pub(crate) capacity: u64,
}

impl SegmentEntry {
    /// The address after its last byte, if there is such an address.
    pub(crate) fn end(&self) -> Option<u64> {
        self.base.checked_add(self.capacity)
    }
}

/// Where the log was cut off after a failed sync, to go on in a segment of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// The end of the last durable frame: what any earlier segment holds from there on is void.
    pub(crate) address: u64,
    /// The chain there.
    pub(crate) chain: u64,
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: [u8; 16],
    pub(crate) entry: SegmentEntry,
    /// `None` for a segment that goes on where the one before is full.
    pub(crate) continues_from: Option<Seal>,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT_HEADER.try_into().unwrap_or(4096)];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &FORMAT.to_le_bytes());
        let flags = self.continues_from.map_or(0, |_| SEALING);
        put(&mut bytes, 12, &flags.to_le_bytes());
        put(&mut bytes, 16, &self.store);
        put(&mut bytes, 32, &self.entry.ordinal.to_le_bytes());
        put(&mut bytes, 40, &self.entry.base.to_le_bytes());
        put(&mut bytes, 48, &self.entry.capacity.to_le_bytes());
        let crc = crc32c::crc32c(bytes.get(..CHECKED).unwrap_or_default());
        put(&mut bytes, CHECKED, &crc.to_le_bytes());
        if let Some(seal) = &self.continues_from {
            put(&mut bytes, 64, &seal.address.to_le_bytes());
            put(&mut bytes, 72, &seal.chain.to_le_bytes());
            let crc = crc32c::crc32c(bytes.get(..SEALED).unwrap_or_default());
            put(&mut bytes, SEALED, &crc.to_le_bytes());
        }
        bytes
    }

    /// The bytes where a file's header stands.
    pub(crate) fn read(file: &dyn VfsFile) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(SEGMENT_HEADER).unwrap_or_default()];
        let read = read_full(file, &mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The format of a whole header that this build is too old for.
    pub(crate) fn newer_format(bytes: &[u8]) -> Option<u32> {
        let format = u32_at(bytes, 8)?;
        let is_whole = bytes.get(..8)? == MAGIC && is_checked(bytes, CHECKED)?;
        (is_whole && format > FORMAT).then_some(format)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..8)? != MAGIC || !is_checked(bytes, CHECKED)? {
            return None;
        }
        let entry = SegmentEntry {
            ordinal: u64_at(bytes, 32)?,
            base: u64_at(bytes, 40)?,
            capacity: u64_at(bytes, 48)?,
        };
        let is_sound = entry.capacity > SEGMENT_HEADER && entry.end().is_some();
        if !is_sound || u32_at(bytes, 8)? > FORMAT {
            return None;
        }
        let continues_from = match u32_at(bytes, 12)? {
            0 => None,
            SEALING if is_checked(bytes, SEALED)? => Some(Seal {
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

/// Whether the CRC of the first `length` bytes stands after them.
fn is_checked(bytes: &[u8], length: usize) -> Option<bool> {
    Some(u32_at(bytes, length)? == crc32c::crc32c(bytes.get(..length)?))
}
