//! The file of one segment, and the descriptors by which it is open.
//!
//! A segment that frames are written to has two descriptors from before its first write until all
//! its bytes are durable. Linux reports a failed write-back once to each open file description that
//! existed when it failed, and never to one that is opened later (errseq, since 4.13). So the
//! descriptor by which frames are synced must have been open during every write, and must not share
//! its report with the one that writes zeros ahead. Every other segment is only read, and its file
//! is open while `OpenFiles` keeps it.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use super::open_files::OpenFiles;
use super::segment_header::SegmentHeader;
use crate::mutex::RwLock;
use crate::vfs::{OpenMode, VfsFile};

/// The file of a segment, open or not.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(super) path: PathBuf,
    header: SegmentHeader,
    is_writable: bool,
    files: Arc<OpenFiles>,
    /// The descriptors while the file is written to. Readers of the file share the lock; it is
    /// held exclusively only to open and to close, so that two threads never open two pairs: a
    /// sync through one pair would miss the report of a failed write through the other.
    active: RwLock<Option<Active>>,
}

/// The descriptors of a file that is written to.
#[derive(Clone, Debug)]
struct Active {
    /// Writes and syncs frames.
    file: Arc<dyn VfsFile>,
    /// Fills the file with zeros ahead of the tail.
    ahead: Arc<dyn VfsFile>,
}

impl SegmentFile {
    pub(super) fn new(
        files: Arc<OpenFiles>,
        path: PathBuf,
        header: SegmentHeader,
        is_writable: bool,
    ) -> Self {
        Self {
            path,
            header,
            is_writable,
            files,
            active: RwLock::new(None),
        }
    }

    /// Add a descriptor that was opened to read the header.
    pub(super) fn opened(&self, file: Arc<dyn VfsFile>) {
        self.files.keep(self.ordinal(), file);
    }

    /// Open the file for writing, until [`SegmentFile::release`].
    pub(super) fn activate(&self) -> io::Result<()> {
        self.writer().map(drop)
    }

    /// Close the descriptors for writing. All that was written must be durable.
    pub(super) fn release(&self) {
        let released = self.active.write().take();
        if let Some(active) = released {
            self.files.keep(self.ordinal(), active.file);
        }
    }

    /// The descriptor that fills the file with zeros, while the file is open for writing.
    pub(super) fn ahead(&self) -> Option<Arc<dyn VfsFile>> {
        let active = self.active.read();
        active.as_ref().map(|active| Arc::clone(&active.ahead))
    }

    /// Sync the written frames. A file that is not open for writing needs no sync: it was durable
    /// when it was released.
    pub(super) fn sync_written(&self) -> io::Result<()> {
        let active = self.active_file();
        active.map_or(Ok(()), |file| file.sync_data())
    }

    fn ordinal(&self) -> u64 {
        self.header.entry.ordinal
    }

    fn active_file(&self) -> Option<Arc<dyn VfsFile>> {
        let active = self.active.read();
        active.as_ref().map(|active| Arc::clone(&active.file))
    }

    /// Return the descriptor for frames. Open the file for writing if it is not open.
    fn writer(&self) -> io::Result<Arc<dyn VfsFile>> {
        if let Some(file) = self.active_file() {
            return Ok(file);
        }
        if !self.is_writable {
            return Err(Errno::BADF.into());
        }
        let mut active = self.active.write();
        // Another thread may have opened it while this one waited for the lock.
        if let Some(active) = &*active {
            return Ok(Arc::clone(&active.file));
        }
        let open = || self.files.open(&self.path, OpenMode::ReadWrite);
        let (file, ahead) = (self.checked(open()?)?, open()?);
        *active = Some(Active {
            file: Arc::clone(&file),
            ahead,
        });
        self.files.forget(self.ordinal());
        Ok(file)
    }

    fn reader_if_open(&self) -> Option<Arc<dyn VfsFile>> {
        self.active_file()
            .or_else(|| self.files.get(self.ordinal()))
    }

    fn reader(&self) -> io::Result<Arc<dyn VfsFile>> {
        if let Some(file) = self.reader_if_open() {
            return Ok(file);
        }
        let file = self.checked(self.files.open(&self.path, OpenMode::Read)?)?;
        self.files.keep(self.ordinal(), Arc::clone(&file));
        Ok(file)
    }

    /// Return the file, unless another file has been put in its place since the segment was opened.
    fn checked(&self, file: Arc<dyn VfsFile>) -> io::Result<Arc<dyn VfsFile>> {
        let found = SegmentHeader::decode(&SegmentHeader::read(&*file)?);
        if found == Some(self.header) {
            return Ok(file);
        }
        let reason = "its header is not the one that the segment was created with";
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }
}

impl VfsFile for SegmentFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.reader()?.read_at(buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        match self.reader_if_open() {
            Some(file) => file.read_at_nowait(buf, offset),
            None => Ok(None),
        }
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.writer()?.write_vectored_at(bufs, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.writer()?.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.writer()?.sync_all()
    }

    fn size(&self) -> io::Result<u64> {
        self.reader()?.size()
    }

    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        self.reader()?.drop_cache(offset, len)
    }
}
