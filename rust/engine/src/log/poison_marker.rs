//! POISONED: a sync had failed, and how far the log was durable by then.
//!
//! After a failed sync the kernel may take for clean what the disk never got, so neither
//! what is cached nor a second sync tells what is on the disk. The end that is written here
//! was found before the failure. The next opening cuts the log there and goes on in a file
//! that the failure didn't touch.

use xxhash_rust::xxh3::xxh3_64;

use super::layout::{Layout, read_file};
use super::segment_header::Seal;
use crate::bytes::{array, u32_at, u64_at};
use crate::error::{Error, Result};
use crate::format::FORMAT;

const MAGIC: &[u8; 8] = b"EBPOISN\n";
const FIXED: usize = 48;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) store: [u8; 16],
    /// The end of the last frame that was durable, and its chain.
    pub(crate) durable: Seal,
    /// For people.
    pub(crate) reason: String,
}

/// What stands where the file would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Absent,
    /// Something that says nothing of this store.
    Unreadable,
    Whole(Marker),
}

impl Marker {
    pub(crate) fn place(&self, layout: &Layout) -> Result<()> {
        layout.place_bytes_in_held(&layout.poisoned(), &self.encode())
    }

    pub(crate) fn find(layout: &Layout, store: [u8; 16]) -> Result<Found> {
        let path = layout.poisoned();
        let Some(bytes) = read_file(layout, &path)? else {
            return Ok(Found::Absent);
        };
        match Self::decode(&bytes) {
            Some((format, _)) if format > FORMAT => Err(Error::newer(&path, format)),
            Some((_, marker)) if marker.store == store => Ok(Found::Whole(marker)),
            _ => Ok(Found::Unreadable),
        }
    }

    /// Takes the file away, durably.
    pub(crate) fn lift(layout: &Layout) -> Result<()> {
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

    /// The format and the marker, of a whole file.
    fn decode(bytes: &[u8]) -> Option<(u32, Self)> {
        let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
        if body.get(..8)? != MAGIC || u64_at(hash, 0)? != xxh3_64(body) {
            return None;
        }
        let durable = Seal {
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

    fn marker() -> Marker {
        Marker {
            store: [7; 16],
            durable: Seal {
                address: 4096,
                chain: 9,
            },
            reason: "the disk failed".to_owned(),
        }
    }

    #[test]
    fn a_marker_survives_its_encoding() {
        assert_eq!(Marker::decode(&marker().encode()), Some((FORMAT, marker())));
    }

    #[test]
    fn any_flipped_byte_voids_a_marker() {
        let good = marker().encode();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x40;
            assert_eq!(Marker::decode(&bad), None, "byte {i}");
        }
    }

    #[test]
    fn a_marker_cut_short_is_none() {
        let good = marker().encode();
        for length in 0..good.len() {
            assert_eq!(Marker::decode(&good[..length]), None, "{length} bytes");
        }
    }
}
