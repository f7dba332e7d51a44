//! One segment of the log: a file with a 4 KiB header, then frames, then zeros.
//!
//! A background thread writes the zeros ahead of the tail, for two reasons: a sync is cheaper if
//! neither the size of the file nor its blocks change, and a full disk is noticed before a commit
//! depends on it. Two threads write to the file at the same time: the committer writes frames below
//! `filled`, the background thread writes zeros from `filled` on.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::mutex::Mutex;

use super::directory_layout::Layout;
use super::segment_file::SegmentFile;
use super::segment_header::{CutPoint, SEGMENT_HEADER, SegmentEntry, SegmentHeader};
use crate::error::{Error, Result};
use crate::vfs::{VfsFile, read_full, write_all_at, write_counting};

static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

/// A segment of an open log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: SegmentFile,
    pub(crate) entry: SegmentEntry,
    /// The cut that a continuation segment continues from.
    pub(crate) continues_from: Option<CutPoint>,
    /// The offset up to which the file contains frames or zeros. Only grows. Written with `AcqRel`
    /// after the bytes below it have been written, and read with `Acquire`: a thread that reads a
    /// value may write frames below it, and no zeros that another thread is still writing can
    /// land on them.
    filled: AtomicU64,
    /// Held by every thread that writes at or beyond `filled`. Without it, a thread that fills
    /// could write zeros over a frame that the committer has just written there.
    filling: Mutex<()>,
}

impl Segment {
    /// Create the segment of a file that was opened to read its header.
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

    /// Open the file for writing. Called before anything is written, so that a lack of descriptors
    /// is an error of this process alone and leaves the store as it is.
    pub(crate) fn activate(&self) -> Result<()> {
        self.file.activate().map_err(|e| self.error("open", &e))
    }

    /// Close the descriptors for writing. Everything in the segment must be durable, and the log
    /// must continue in a later segment.
    pub(crate) fn release(&self) {
        self.file.release();
    }

    /// Make all written frames durable.
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

    /// Return the offset of the first non-zero byte at or after `from`.
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

    /// Drop the cached pages of the file, so that the next reads come from the disk.
    pub(crate) fn drop_cache(&self) {
        // The kernel may ignore the advice. That is safe, because recovery trusts nothing above the
        // durable end either way.
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

    /// The error for a failed operation on this segment.
    pub(crate) fn error(&self, operation: &'static str, e: &io::Error) -> Error {
        if e.kind() == io::ErrorKind::InvalidData {
            return Error::corrupt(&self.path, 0, e.to_string());
        }
        Error::io(&self.path, operation, e)
    }

    /// The length of the file, including preallocated zeros, when this session last measured or
    /// extended it.
    pub(crate) fn filled(&self) -> u64 {
        self.filled.load(Ordering::Acquire)
    }

    /// Read the length of the file, which other processes may have filled further.
    pub(crate) fn measure(&self) -> Result<u64> {
        let size = self.file.size().map_err(|e| self.error("measure", &e))?;
        Ok(self.filled.fetch_max(size, Ordering::AcqRel).max(size))
    }

    /// Write consecutive frames, beginning at `address`. An error is returned with the number of
    /// bytes that were written before it.
    pub(crate) fn write(
        &self,
        frames: &[IoSlice<'_>],
        address: u64,
    ) -> std::result::Result<(), (io::Error, usize)> {
        let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
        let offset = self.offset(address);
        let end = offset + bytes as u64;
        if end <= self.filled() {
            // No lock: all zeros below `filled` have been written.
            return write_counting(&self.file, frames, offset);
        }
        let filling = self.filling.lock();
        write_counting(&self.file, frames, offset)?;
        self.filled.fetch_max(end, Ordering::AcqRel);
        drop(filling);
        Ok(())
    }

    /// Fill the next `step` bytes with zeros. Return whether there was anything left to fill.
    pub(crate) fn fill_ahead(&self, step: u64) -> io::Result<bool> {
        self.fill_to(|filled| (filled + step).min(self.entry.capacity))
    }

    /// Fill the file with zeros up to an offset, so that a later write to it can't fail for lack of
    /// room.
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

    /// Make the zeros durable.
    ///
    /// This sync uses a file description of its own. The kernel reports a failed write-back once to
    /// each description: if this sync shared the one for frames, it could consume the report of a
    /// failure that concerns frames, and the sync of the frames would then succeed.
    pub(crate) fn sync_ahead(&self) -> io::Result<()> {
        self.file.ahead().map_or(Ok(()), |ahead| ahead.sync_data())
    }
}

/// Write zeros to `from..to`.
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
