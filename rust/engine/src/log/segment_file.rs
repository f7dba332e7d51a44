//! The files of the log's segments, of which a bounded number is open.
//!
//! A segment that frames are written to has two descriptors from before its first write until
//! all of it is durable: the kernel reports a failed write to each description of a file that
//! was open by then, and to none that is opened after the report. Every other segment is only
//! read, and its file is open while it is among those that were read last.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use super::segment_header::SegmentHeader;
use crate::lock::{Mutex, RwLock};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Descriptors of segments that are only read.
const LIMIT: usize = 48;

/// The files that were read last, the latest at the end.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    vfs: Arc<dyn Vfs>,
    recent: Mutex<Vec<(u64, Arc<dyn VfsFile>)>>,
}

impl OpenFiles {
    pub(crate) fn new(vfs: Arc<dyn Vfs>) -> Self {
        Self {
            vfs,
            recent: Mutex::default(),
        }
    }

    /// Opens a file; where the process has no descriptor left, one of those that are only kept
    /// for later is given back first.
    pub(crate) fn open(
        &self,
        path: &std::path::Path,
        mode: OpenMode,
    ) -> io::Result<Arc<dyn VfsFile>> {
        match self.vfs.open(path, mode) {
            Err(e) if is_exhausted(&e) && self.close_all() => self.vfs.open(path, mode),
            opened => opened,
        }
    }

    fn get(&self, ordinal: u64) -> Option<Arc<dyn VfsFile>> {
        let mut recent = self.recent.lock();
        let i = recent.iter().rposition(|(known, _)| *known == ordinal)?;
        let found = recent.remove(i);
        let file = Arc::clone(&found.1);
        recent.push(found);
        Some(file)
    }

    fn keep(&self, ordinal: u64, file: Arc<dyn VfsFile>) {
        let oldest = {
            let mut recent = self.recent.lock();
            // Another thread may have been faster.
            recent.retain(|(known, _)| *known != ordinal);
            recent.push((ordinal, file));
            (recent.len() > LIMIT).then(|| recent.remove(0))
        };
        // Closed after the lock was freed.
        drop(oldest);
    }

    fn forget(&self, ordinal: u64) {
        let mut recent = self.recent.lock();
        recent.retain(|(known, _)| *known != ordinal);
    }

    /// Closes all files but those that are being read; answers whether there was any.
    fn close_all(&self) -> bool {
        let closed = std::mem::take(&mut *self.recent.lock());
        !closed.is_empty()
    }
}

/// Whether this process, or the system, has no descriptor or no memory left to open a file.
fn is_exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM]
        .into_iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// The file of a segment, open or not.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(super) path: PathBuf,
    header: SegmentHeader,
    is_writable: bool,
    files: Arc<OpenFiles>,
    active: RwLock<Option<Active>>,
}

/// Two descriptions of a file that is written to.
#[derive(Clone, Debug)]
struct Active {
    file: Arc<dyn VfsFile>,
    /// To fill the file ahead of the tail.
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

    /// Takes over a file that was opened to look at its header.
    pub(super) fn opened(&self, file: Arc<dyn VfsFile>) {
        self.files.keep(self.ordinal(), file);
    }

    /// Opens the file to be written to, from now on until [`SegmentFile::release`].
    pub(super) fn activate(&self) -> io::Result<()> {
        self.writer().map(drop)
    }

    /// Closes what was open to write, once all that was written is durable.
    pub(super) fn release(&self) {
        let released = self.active.write().take();
        if let Some(active) = released {
            self.files.keep(self.ordinal(), active.file);
        }
    }

    /// The description that fills the file ahead, while the file is open to be written to.
    pub(super) fn ahead(&self) -> Option<Arc<dyn VfsFile>> {
        let active = self.active.read();
        active.as_ref().map(|active| Arc::clone(&active.ahead))
    }

    /// Syncs what was written. A file that is not open to be written to was durable before it
    /// was released.
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

    fn writer(&self) -> io::Result<Arc<dyn VfsFile>> {
        if let Some(file) = self.active_file() {
            return Ok(file);
        }
        if !self.is_writable {
            return Err(Errno::BADF.into());
        }
        let mut active = self.active.write();
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

    /// Refuses a file that took the place of the one which was open before.
    fn checked(&self, file: Arc<dyn VfsFile>) -> io::Result<Arc<dyn VfsFile>> {
        let found = SegmentHeader::decode(&SegmentHeader::read(&*file)?);
        if found == Some(self.header) {
            return Ok(file);
        }
        let reason = "the header is not the one that the file was given";
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
