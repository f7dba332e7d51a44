//! The manifest: which segments a log has, and up to which address it was known to be durable.
//!
//! Each version is a file of its own, MANIFEST-n, where n is its generation. The file CURRENT
//! contains the name of the live one. A new manifest is written durably before CURRENT names it.

use xxhash_rust::xxh3::xxh3_64;

use super::atomic_file::read_file;
use super::directory_layout::Layout;
use super::segment_header::SegmentEntry;
use crate::bytes::{u32_at, u64_at};
use crate::error::{Error, Result};
use crate::format_version::FORMAT;

const MAGIC: &[u8; 8] = b"EBMANIF\n";
const FIXED: usize = 48;
const ENTRY: usize = 24;

/// One version of the manifest. It is complete: no version depends on an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) generation: u64,
    /// The address below which the log was durable when this version was written.
    pub(crate) durable: u64,
    /// The chain at `durable`, if `durable` is the end of a frame.
    pub(crate) chain: u64,
    pub(crate) segments: Vec<SegmentEntry>,
}

impl Manifest {
    /// Write the manifest and make CURRENT name it.
    pub(crate) fn publish(&self, layout: &Layout) -> Result<()> {
        layout.write_bytes_atomically(&layout.manifest(self.generation), &self.encode())?;
        let name = format!("MANIFEST-{}\n", self.generation);
        layout.write_bytes_atomically(&layout.current(), name.as_bytes())?;
        if let Some(before) = self.generation.checked_sub(1) {
            // A failure is not an error: an old manifest takes some bytes and is never read again.
            let _removed = layout.remove_if_there(&layout.manifest(before));
        }
        Ok(())
    }

    /// Read the live manifest. `None` if there is none or if it is damaged: the caller then lists
    /// the directory of the log, and must not trust an older manifest.
    pub(crate) fn live(layout: &Layout) -> Result<Option<Self>> {
        let Some(current) = read_file(layout, &layout.current())? else {
            return Ok(None);
        };
        let generation = std::str::from_utf8(&current)
            .ok()
            .and_then(|name| name.trim_end().strip_prefix("MANIFEST-")?.parse().ok());
        let Some(generation) = generation else {
            return Ok(None);
        };
        let path = layout.manifest(generation);
        let Some(bytes) = read_file(layout, &path)? else {
            return Ok(None);
        };
        if let Some(found) = newer_format(&bytes) {
            return Err(Error::newer(&path, found));
        }
        Ok(Self::decode(&bytes).filter(|m| m.generation == generation))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED + self.segments.len() * ENTRY + 8);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(
            &u32::try_from(self.segments.len())
                .unwrap_or(0)
                .to_le_bytes(),
        );
        for number in [self.generation, self.durable, self.chain, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for segment in &self.segments {
            for number in [segment.ordinal, segment.base, segment.capacity] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        let hash = xxh3_64(&bytes);
        bytes.extend_from_slice(&hash.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let count = u32_at(bytes, 12)? as usize;
        let length = FIXED + count * ENTRY;
        if bytes.len() != length + 8 || bytes.get(..8)? != MAGIC || u32_at(bytes, 8)? > FORMAT {
            return None;
        }
        if u64_at(bytes, length)? != xxh3_64(bytes.get(..length)?) {
            return None;
        }
        let segment = |i: usize| {
            let at = FIXED + i * ENTRY;
            Some(SegmentEntry {
                ordinal: u64_at(bytes, at)?,
                base: u64_at(bytes, at + 8)?,
                capacity: u64_at(bytes, at + 16)?,
            })
        };
        Some(Self {
            generation: u64_at(bytes, 16)?,
            durable: u64_at(bytes, 24)?,
            chain: u64_at(bytes, 32)?,
            segments: (0..count).map(segment).collect::<Option<_>>()?,
        })
    }
}

/// Return the format of a valid manifest that is newer than this build can read. Such a manifest is
/// not damaged, so the directory must not be listed instead.
fn newer_format(bytes: &[u8]) -> Option<u32> {
    let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    let is_valid = bytes.get(..8)? == MAGIC && u64_at(hash, 0)? == xxh3_64(body);
    let format = u32_at(bytes, 8)?;
    (is_valid && format > FORMAT).then_some(format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let segments = vec![SegmentEntry {
            ordinal: 1,
            base: 0,
            capacity: 1 << 20,
        }];
        Manifest {
            generation: 3,
            durable: 5000,
            chain: 9,
            segments,
        }
    }

    #[test]
    fn a_manifest_survives_its_encoding() {
        assert_eq!(Manifest::decode(&manifest().encode()), Some(manifest()));
    }

    #[test]
    fn a_manifest_with_any_flipped_byte_is_refused() {
        let good = manifest().encode();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x40;
            assert_eq!(Manifest::decode(&bad), None, "byte {i}");
        }
    }
}
