//! One file of the log: a 4 KiB header, then frames, then zeros.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lock::Mutex;

use super::FORMAT;
use super::manifest::SegmentEntry;
use crate::bytes::{array, put, u32_at, u64_at};
use crate::error::{Error, Result};
use crate::vfs::{OpenMode, Vfs, VfsFile, write_all_at};

/// Bytes before the first frame.
pub(crate) const SEGMENT_HEADER: u64 = 4096;

const MAGIC: &[u8; 8] = b"EBSEGMT\n";
const CHECKED: usize = 56;
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: [u8; 16],
    pub(crate) entry: SegmentEntry,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT_HEADER.try_into().unwrap_or(4096)];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &FORMAT.to_le_bytes());
        put(&mut bytes, 16, &self.store);
        put(&mut bytes, 32, &self.entry.ordinal.to_le_bytes());
        put(&mut bytes, 40, &self.entry.base.to_le_bytes());
        put(&mut bytes, 48, &self.entry.capacity.to_le_bytes());
        let crc = crc32c::crc32c(bytes.get(..CHECKED).unwrap_or_default());
        put(&mut bytes, CHECKED, &crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..8)? != MAGIC
            || u32_at(bytes, CHECKED)? != crc32c::crc32c(bytes.get(..CHECKED)?)
        {
            return None;
        }
        let entry = SegmentEntry {
            ordinal: u64_at(bytes, 32)?,
            base: u64_at(bytes, 40)?,
            capacity: u64_at(bytes, 48)?,
        };
        let is_sound = entry.capacity > SEGMENT_HEADER && entry.end().is_some();
        (is_sound && u32_at(bytes, 8)? <= FORMAT).then_some(Self {
            store: array(bytes, 16)?,
            entry,
        })
    }
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn VfsFile>,
    /// The same file, opened a second time, to fill it ahead of the tail.
    ahead: Arc<dyn VfsFile>,
    pub(crate) entry: SegmentEntry,
    /// Offset up to which the file was filled with zeros (or frames) ahead of the tail.
    filled: AtomicU64,
    /// Held by whoever fills. Nobody writes at or beyond `filled` without it, so zeros can
    /// never land on a frame.
    filling: Mutex<()>,
}

impl Segment {
    /// Opens the segment file at `path`, whose header says `entry`.
    pub(crate) fn open(vfs: &dyn Vfs, path: PathBuf, entry: SegmentEntry) -> Result<Self> {
        let open = || {
            vfs.open(&path, OpenMode::ReadWrite)
                .map_err(|e| Error::io(&path, "open", &e))
        };
        let (file, ahead) = (open()?, open()?);
        let size = file.size().map_err(|e| Error::io(&path, "measure", &e))?;
        let (filled, filling) = (AtomicU64::new(size), Mutex::new(()));
        Ok(Self {
            path,
            file,
            ahead,
            entry,
            filled,
            filling,
        })
    }

    /// The address of the first frame.
    pub(crate) fn first_frame(&self) -> u64 {
        self.entry.base + SEGMENT_HEADER
    }

    /// The address after the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.entry.base + self.entry.capacity
    }

    pub(crate) fn offset(&self, address: u64) -> u64 {
        address - self.entry.base
    }

    /// An I/O error of this segment.
    pub(crate) fn error(&self, operation: &'static str, e: &io::Error) -> Error {
        Error::io(&self.path, operation, e)
    }

    /// Bytes of the file, frames and zeros.
    pub(crate) fn filled(&self) -> u64 {
        self.filled.load(Ordering::Acquire)
    }

    /// Writes frames that follow each other, beginning at `address`.
    pub(crate) fn write(&self, frames: &[IoSlice<'_>], address: u64) -> io::Result<()> {
        let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
        let offset = self.offset(address);
        let end = offset + bytes as u64;
        if end <= self.filled() {
            return write_all_at(&*self.file, frames, offset);
        }
        let filling = self.filling.lock();
        write_all_at(&*self.file, frames, offset)?;
        self.filled.fetch_max(end, Ordering::AcqRel);
        drop(filling);
        Ok(())
    }

    /// Fills the next `step` bytes with zeros, so that later syncs need not change the
    /// file's size or map new blocks. Answers whether anything was left to fill.
    pub(crate) fn fill_ahead(&self, step: u64) -> io::Result<bool> {
        let filling = self.filling.lock();
        let from = self.filled();
        let to = (from + step).min(self.entry.capacity);
        if from >= to {
            return Ok(false);
        }
        fill_zeros(&*self.ahead, from, to)?;
        self.filled.fetch_max(to, Ordering::AcqRel);
        drop(filling);
        Ok(true)
    }

    /// Makes the zeros durable.
    ///
    /// Done through a description of the file of its own: the kernel tells each description
    /// once that a write failed, and a failure that concerns frames must reach the one that
    /// syncs them too.
    pub(crate) fn sync_ahead(&self) -> io::Result<()> {
        self.ahead.sync_data()
    }
}

/// Writes zeros over `from..to`.
pub(crate) fn fill_zeros(file: &dyn VfsFile, mut from: u64, to: u64) -> io::Result<()> {
    while from < to {
        let n = usize::try_from(to - from)
            .unwrap_or(usize::MAX)
            .min(ZEROS.len());
        write_all_at(
            file,
            &[IoSlice::new(ZEROS.get(..n).unwrap_or_default())],
            from,
        )?;
        from += n as u64;
    }
    Ok(())
}
