//! The open files of segments that are only read: the most recently used ones, up to a limit.
//!
//! A store may have more segments than the process may have descriptors.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use crate::mutex::Mutex;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// The maximum number of descriptors for segments that are only read.
const LIMIT: usize = 48;

/// A cache of open files, by the ordinal of their segment.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    vfs: Arc<dyn Vfs>,
    /// The most recently used file is the last. The lock is held while the list is searched or
    /// changed, never during a system call, because every read of every thread acquires it.
    recent: Mutex<Vec<(u64, Arc<dyn VfsFile>)>>,
}

impl OpenFiles {
    pub(crate) fn new(vfs: Arc<dyn Vfs>) -> Self {
        Self {
            vfs,
            recent: Mutex::default(),
        }
    }

    /// Open a file. If the process has no descriptor left, close the cached files and try once
    /// more.
    pub(crate) fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        match self.vfs.open(path, mode) {
            Err(e) if is_exhausted(&e) && self.close_all() => self.vfs.open(path, mode),
            opened => opened,
        }
    }

    /// Return the open file of a segment, which becomes the most recently used one.
    pub(super) fn get(&self, ordinal: u64) -> Option<Arc<dyn VfsFile>> {
        let mut recent = self.recent.lock();
        let i = recent.iter().rposition(|(cached, _)| *cached == ordinal)?;
        let entry = recent.remove(i);
        let file = Arc::clone(&entry.1);
        recent.push(entry);
        Some(file)
    }

    /// Add an open file. If there are too many, close the one that was used least recently.
    pub(super) fn keep(&self, ordinal: u64, file: Arc<dyn VfsFile>) {
        let oldest = {
            let mut recent = self.recent.lock();
            // Another thread may have added the same file meanwhile.
            recent.retain(|(cached, _)| *cached != ordinal);
            recent.push((ordinal, file));
            (recent.len() > LIMIT).then(|| recent.remove(0))
        };
        // The file is closed after the lock is released, because closing may take long.
        drop(oldest);
    }

    pub(super) fn forget(&self, ordinal: u64) {
        let mut recent = self.recent.lock();
        recent.retain(|(cached, _)| *cached != ordinal);
    }

    /// Remove all cached files. A file that a thread is reading is closed after the read. Return
    /// whether there was any.
    fn close_all(&self) -> bool {
        let closed = std::mem::take(&mut *self.recent.lock());
        !closed.is_empty()
    }
}

/// Whether a file could not be opened for lack of descriptors or memory.
fn is_exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM]
        .into_iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}
