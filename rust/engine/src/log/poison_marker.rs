//! The file POISONED: a sync has failed, and the log was durable up to this address.
//!
//! After a failed sync the kernel may treat pages as clean that the disk never received, so neither
//! the page cache nor a second sync shows what is on the disk ("fsyncgate"; Rebello et al., "Can
//! Applications Recover from fsync Failures?", USENIX ATC 2020). The recorded end was durable
//! before the failure. The next session that writes cuts the log there and continues in a new file,
//! which the failed sync has not affected.

use xxhash_rust::xxh3::xxh3_64;

use super::atomic_file::read_file;
use super::directory_layout::Layout;
use super::segment_header::CutPoint;
use crate::bytes::{array, u32_at, u64_at};
use crate::error::{Error, Result};
use crate::format_version::FORMAT;

const MAGIC: &[u8; 8] = b"EBPOISN\n";
const FIXED: usize = 48;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoisonMarker {
    /// The id of the store. A marker that was copied from another store is ignored.
    pub(crate) store: [u8; 16],
    /// Where the log must be cut.
    pub(crate) durable: CutPoint,
    /// The failure, as text for the person who reads the file.
    pub(crate) reason: String,
}

/// What is at the path of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PoisonMarkerState {
    /// No file.
    Absent,
    /// A file that is damaged or belongs to another store. It counts as no marker: acknowledged
    /// commits must not be cut off because of it.
    Unreadable,
    /// A valid marker of this store.
    Whole(PoisonMarker),
}

impl PoisonMarker {
    pub(crate) fn place(&self, layout: &Layout) -> Result<()> {
        layout.write_bytes_in_held_directory(&layout.poisoned(), &self.encode())
    }

    pub(crate) fn find(layout: &Layout, store: [u8; 16]) -> Result<PoisonMarkerState> {
        let path = layout.poisoned();
        let Some(bytes) = read_file(layout, &path)? else {
            return Ok(PoisonMarkerState::Absent);
        };
        match Self::decode(&bytes) {
            Some((format, _)) if format > FORMAT => Err(Error::newer(&path, format)),
            Some((_, marker)) if marker.store == store => Ok(PoisonMarkerState::Whole(marker)),
            _ => Ok(PoisonMarkerState::Unreadable),
        }
    }

    /// Remove the file, durably.
    pub(crate) fn remove(layout: &Layout) -> Result<()> {
        layout.remove_if_there(&layout.poisoned())?;
        layout.sync_dir(&layout.root)
    }

    fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.reason.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(FIXED + self.reason.len() + 8);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.store);
        bytes.extend_from_slice(&self.durable.address.to_le_bytes());
        bytes.extend_from_slice(&self.durable.chain.to_le_bytes());
        bytes.extend_from_slice(self.reason.as_bytes());
        let hash = xxh3_64(&bytes);
        bytes.extend_from_slice(&hash.to_le_bytes());
        bytes
    }

    /// Decode a valid file: its format, and the marker.
    fn decode(bytes: &[u8]) -> Option<(u32, Self)> {
        let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        if body.get(..8)? != MAGIC || u64_at(hash, 0)? != xxh3_64(body) {
            return None;
        }
        let durable = CutPoint {
            address: u64_at(body, 32)?,
            chain: u64_at(body, 40)?,
        };
        let marker = Self {
            store: array(body, 16)?,
            durable,
            reason: String::from_utf8_lossy(body.get(FIXED..)?).into_owned(),
        };
        Some((u32_at(body, 8)?, marker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> PoisonMarker {
        PoisonMarker {
            store: [7; 16],
            durable: CutPoint {
                address: 4096,
                chain: 9,
            },
            reason: "the disk failed".to_owned(),
        }
    }

    #[test]
    fn a_marker_survives_its_encoding() {
        assert_eq!(
            PoisonMarker::decode(&marker().encode()),
            Some((FORMAT, marker()))
        );
    }

    #[test]
    fn a_marker_with_any_flipped_byte_is_refused() {
        let good = marker().encode();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x40;
            assert_eq!(PoisonMarker::decode(&bad), None, "byte {i}");
        }
    }

    #[test]
    fn a_truncated_marker_is_refused() {
        let good = marker().encode();
        for length in 0..good.len() {
            assert_eq!(
                PoisonMarker::decode(&good[..length]),
                None,
                "{length} bytes"
            );
        }
    }
}
