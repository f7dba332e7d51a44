//! One file of the log: a 4 KiB header, then frames, then zeros.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lock::Mutex;

use super::FORMAT;
use super::files::Layout;
use super::manifest::SegmentEntry;
use super::open_files::SegmentFile;
use crate::bytes::{array, put, u32_at, u64_at};
use crate::error::{Error, Result};
use crate::vfs::{VfsFile, read_full, write_all_at, write_counting};

/// Bytes before the first frame.
pub(crate) const SEGMENT_HEADER: u64 = 4096;

const MAGIC: &[u8; 8] = b"EBSEGMT\n";
const CHECKED: usize = 56;
/// The flag of a header with a second part, which says what the segment goes on from.
const SEALING: u32 = 1;
const SEALED: usize = 80;
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

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
