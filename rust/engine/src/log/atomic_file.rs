//! How a small file is replaced without a torn state, and how one is read.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::directory_layout::Layout;
use crate::error::{Error, Result};
use crate::vfs::{OpenMode, VfsFile, parent_of, read_full, write_all_at};

impl Layout {
    /// Create or replace a file durably and as a whole: write it under a temporary name, sync it,
    /// rename it and sync its directory. `write` writes the content. `before_rename` receives the
    /// temporary path after the content is durable and before other processes can find the file by
    /// its name. Return the result of `before_rename`.
    pub(crate) fn write_atomically<T>(
        &self,
        path: &Path,
        write: impl FnOnce(&dyn VfsFile) -> io::Result<()>,
        before_rename: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        self.check_attached(parent_of(path))?;
        self.write_in_held_directory(path, write, before_rename)
    }

    fn write_in_held_directory<T>(
        &self,
        path: &Path,
        write: impl FnOnce(&dyn VfsFile) -> io::Result<()>,
        before_rename: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        self.remove_if_there(&temporary)?;
        let io = |operation| {
            let temporary = temporary.clone();
            move |e: io::Error| Error::io(&temporary, operation, &e)
        };
        let file = self
            .files
            .open(&temporary, OpenMode::CreateNew)
            .map_err(io("create"))?;
        let written = write(&*file)
            .map_err(io("write"))
            .and_then(|()| file.sync_all().map_err(io("sync")));
        if let Err(e) = written {
            // On a full disk the unfinished file would take room that other files need. If the
            // removal fails, the next attempt to write the same file removes it.
            let _removed = self.vfs.remove(&temporary);
            return Err(e);
        }
        let outcome = before_rename(&temporary)?;
        if let Err(e) = self.vfs.rename(&temporary, path) {
            if !is_refusal(&e) {
                self.distrust_names();
            }
            return Err(Error::io(path, "rename", &e));
        }
        self.sync_parent(path)?;
        Ok(outcome)
    }

    /// Create or replace a small file. If the disk is full, the ballast is deleted to make room:
    /// CURRENT, the manifest and POISONED must be writable even then.
    pub(crate) fn write_bytes_atomically(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.check_attached(parent_of(path))?;
        self.write_bytes_in_held_directory(path, bytes)
    }

    /// Write as [`Layout::write_bytes_atomically`] does, but also if the directory that this
    /// session holds open has been moved. POISONED describes the files that this session has
    /// written, so it must be next to them.
    pub(crate) fn write_bytes_in_held_directory(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let write = |file: &dyn VfsFile| write_all_at(file, &[IoSlice::new(bytes)], 0);
        match self.write_in_held_directory(path, write, |_| Ok(())) {
            Err(Error::StorageFull { .. }) if self.release_ballast() => {
                self.write_in_held_directory(path, write, |_| Ok(()))
            }
            written => written,
        }
    }

    fn release_ballast(&self) -> bool {
        self.has_ballast.store(false, Ordering::SeqCst);
        self.vfs.remove(&self.ballast()).is_ok()
    }
}

/// Whether a rename failed for lack of memory or room. Such a rename has certainly changed nothing.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Read a small file; `None` if the file does not exist.
pub(crate) fn read_file(layout: &Layout, path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match layout.files.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, "open", &e)),
    };
    let read = |e| Error::io(path, "read", &e);
    let size = file.size().map_err(read)?;
    let mut bytes = vec![0; usize::try_from(size.min(16 << 20)).unwrap_or_default()];
    let read_bytes = read_full(&*file, &mut bytes, 0).map_err(read)?;
    bytes.truncate(read_bytes);
    Ok(Some(bytes))
}
