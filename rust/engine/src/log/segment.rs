//! One file of the log: a 4 KiB header, then frames, then zeros.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lock::Mutex;

use super::layout::Layout;
use super::segment_file::SegmentFile;
use super::segment_header::{SEGMENT_HEADER, Seal, SegmentEntry, SegmentHeader};
use crate::error::{Error, Result};
use crate::vfs::{VfsFile, read_full, write_all_at, write_counting};

static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: SegmentFile,
    pub(crate) entry: SegmentEntry,
    /// What it goes on from, if not from the end of the segment before.
    pub(crate) continues_from: Option<Seal>,
    /// Offset up to which the file was filled with zeros (or frames) ahead of the tail.
    filled: AtomicU64,
    /// Held by whoever fills. Nobody writes at or beyond `filled` without it, so zeros can
    /// never land on a frame.
    filling: Mutex<()>,
}

impl Segment {
    /// The segment of a file that was opened to look at its header.
    pub(crate) fn of(
        layout: &Layout,
        header: &SegmentHeader,
        is_writable: bool,
        opened: Arc<dyn VfsFile>,
    ) -> Result<Self> {
        let path = layout.segment(header.entry.ordinal);
        let size = opened.size();
        let size = size.map_err(|e| Error::io(&path, "measure", &e))?;
        let files = Arc::clone(&layout.files);
        let file = SegmentFile::new(files, path.clone(), *header, is_writable);
        file.opened(opened);
        let (filled, filling) = (AtomicU64::new(size), Mutex::new(()));
        Ok(Self {
            path,
            file,
            entry: header.entry,
            continues_from: header.continues_from,
            filled,
            filling,
        })
    }

    /// Opens the file to be written to, before anything is: a failure concerns this process
    /// alone.
    pub(crate) fn activate(&self) -> Result<()> {
        self.file.activate().map_err(|e| self.error("open", &e))
    }

    /// Closes what was open to be written to. The caller knows that all of it is durable, and
    /// that the log goes on in a later segment.
    pub(crate) fn release(&self) {
        self.file.release();
    }

    /// Makes the frames that were written durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_written()
    }

    /// Whether the file still begins with the header that it was opened with.
    pub(crate) fn has_its_header(&self, store: [u8; 16]) -> Result<bool> {
        let bytes = SegmentHeader::read(&self.file).map_err(|e| self.error("read", &e))?;
        let own = SegmentHeader {
            store,
            entry: self.entry,
            continues_from: self.continues_from,
        };
        Ok(SegmentHeader::decode(&bytes) == Some(own))
    }

    /// The offset of the first byte from `from` on that is not zero.
    pub(crate) fn first_non_zero(&self, from: u64) -> Result<Option<u64>> {
        let mut buffer = vec![0; 1 << 20];
        let mut at = from;
        loop {
            let n = read_full(&self.file, &mut buffer, at).map_err(|e| self.error("read", &e))?;
            let read = buffer.get(..n).unwrap_or_default();
            if let Some(i) = read.iter().position(|byte| *byte != 0) {
                return Ok(Some(at + i as u64));
            }
            if n < buffer.len() {
                return Ok(None);
            }
            at += n as u64;
        }
    }

    /// Has what is cached of the file read from the disk again.
    pub(crate) fn drop_cache(&self) {
        // An advice: the file is read either way, and nothing above a durable end is believed.
        let _advised = self.file.drop_cache(0, self.filled());
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
        if e.kind() == io::ErrorKind::InvalidData {
            return Error::corrupt(&self.path, 0, e.to_string());
        }
        Error::io(&self.path, operation, e)
    }

    /// Bytes of the file, frames and zeros.
    pub(crate) fn filled(&self) -> u64 {
        self.filled.load(Ordering::Acquire)
    }

    /// Takes note of what other processes have filled. The file only grows.
    pub(crate) fn measure(&self) -> Result<u64> {
        let size = self.file.size().map_err(|e| self.error("measure", &e))?;
        Ok(self.filled.fetch_max(size, Ordering::AcqRel).max(size))
    }

    /// Writes frames that follow each other, beginning at `address`. An error comes with the
    /// number of bytes that were written before it.
    pub(crate) fn write(
        &self,
        frames: &[IoSlice<'_>],
        address: u64,
    ) -> std::result::Result<(), (io::Error, usize)> {
        let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
        let offset = self.offset(address);
        let end = offset + bytes as u64;
        if end <= self.filled() {
            return write_counting(&self.file, frames, offset);
        }
        let filling = self.filling.lock();
        write_counting(&self.file, frames, offset)?;
        self.filled.fetch_max(end, Ordering::AcqRel);
        drop(filling);
        Ok(())
    }

    /// Fills the next `step` bytes with zeros, so that later syncs need not change the
    /// file's size or map new blocks. Answers whether anything was left to fill.
    pub(crate) fn fill_ahead(&self, step: u64) -> io::Result<bool> {
        self.fill_to(|filled| (filled + step).min(self.entry.capacity))
    }

    /// Makes sure that there is room on the disk up to this offset.
    pub(crate) fn fill_room(&self, to: u64) -> io::Result<()> {
        self.fill_to(|_| to).map(|_| ())
    }

    fn fill_to(&self, to: impl Fn(u64) -> u64) -> io::Result<bool> {
        let filling = self.filling.lock();
        let from = self.filled();
        let to = to(from);
        let Some(ahead) = self.file.ahead().filter(|_| from < to) else {
            return Ok(false);
        };
        fill_zeros(&*ahead, from, to)?;
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
        self.file.ahead().map_or(Ok(()), |ahead| ahead.sync_data())
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
