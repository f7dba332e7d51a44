//! Where the store's files are, and how small ones are replaced without a torn moment.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::segment_file::OpenFiles;
use crate::error::{Error, Result};
use crate::vfs::{Entry, OpenMode, Vfs, parent_of, read_full, write_all_at};

/// The paths inside a store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) root: PathBuf,
    /// A rename or the sync of a directory failed: what the disk names is not known.
    unsure: Arc<AtomicBool>,
    /// The files of its segments.
    pub(crate) files: Arc<OpenFiles>,
    /// The reserve for a full disk is there.
    pub(crate) ballasted: Arc<AtomicBool>,
}

impl Layout {
    /// The same directory, reached from now on whatever its path names later.
    pub(crate) fn hold(self) -> Result<Self> {
        let held = self.vfs.hold(&self.root);
        let held = held.map_err(|e| Error::io(&self.root, "open", &e))?;
        Ok(Self::new(held, self.root))
    }

    pub(crate) fn new(vfs: Arc<dyn Vfs>, root: PathBuf) -> Self {
        Self {
            files: Arc::new(OpenFiles::new(Arc::clone(&vfs))),
            vfs,
            root,
            unsure: Arc::default(),
            ballasted: Arc::default(),
        }
    }

    /// Whether a rename or the sync of a directory has failed. Trying again might succeed
    /// without the names that were lost, so nobody does until the store is opened anew.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure.load(Ordering::SeqCst)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.root.join("IDENTITY")
    }

    pub(crate) fn current(&self) -> PathBuf {
        self.root.join("CURRENT")
    }

    pub(crate) fn manifest(&self, generation: u64) -> PathBuf {
        self.root.join(format!("MANIFEST-{generation}"))
    }

    pub(crate) fn poisoned(&self) -> PathBuf {
        self.root.join("POISONED")
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    /// The lock under which sessions begin and end.
    pub(crate) fn boot(&self) -> PathBuf {
        self.locks().join("boot.lock")
    }

    /// The lock file of the session in a slot of the shared page.
    pub(crate) fn session_lock(&self, number: usize) -> PathBuf {
        self.locks().join(format!("session-{number}.lock"))
    }

    /// What the processes of the store share in memory.
    pub(crate) fn page(&self) -> PathBuf {
        self.root.join("coord.shm")
    }

    pub(crate) fn holder(&self) -> PathBuf {
        self.locks().join("live.holder")
    }

    pub(crate) fn segment(&self, ordinal: u64) -> PathBuf {
        self.log().join(format!("{ordinal:010}.hot"))
    }

    /// Refuses to make a new file or name in `directory` if its path, or the store's, names
    /// another directory by now: whoever opens the store by its path would not find it.
    pub(crate) fn check_attached(&self, directory: &Path) -> Result<()> {
        let is_inside = directory != self.root && directory.starts_with(&self.root);
        let inner = is_inside.then_some(directory);
        for path in std::iter::once(self.root.as_path()).chain(inner) {
            let is_in_place = self.vfs.is_in_place(path);
            if !is_in_place.map_err(|e| Error::io(path, "look up", &e))? {
                return Err(Error::moved(path));
            }
        }
        Ok(())
    }

    /// Makes a directory unless it is there, durably.
    pub(crate) fn ensure_dir(&self, path: &Path) -> Result<()> {
        match self
            .vfs
            .entry(path)
            .map_err(|e| Error::io(path, "look up", &e))?
        {
            Some(Entry::Directory) => Ok(()),
            Some(_) => Err(Error::NotAStore {
                path: self.root.clone(),
                reason: format!("{} is not a directory", path.display()),
            }),
            None => {
                self.check_attached(parent_of(path))?;
                match self.vfs.create_dir(path) {
                    // Somebody else makes the same store; the lock decides between us.
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        Err(Error::io(path, "create", &e))
                    }
                    _ => self.sync_parent(path),
                }
            }
        }
    }

    pub(crate) fn sync_parent(&self, path: &Path) -> Result<()> {
        self.sync_dir(parent_of(path))
    }

    /// As [`Layout::sync_parent`], where one may: a directory that another user owns need not
    /// be readable.
    pub(crate) fn sync_parent_if_allowed(&self, path: &Path) -> Result<()> {
        match self.vfs.sync_dir(parent_of(path)) {
            Err(e) if e.kind() != io::ErrorKind::PermissionDenied => {
                Err(Error::io(path, "sync the directory of", &e))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn sync_dir(&self, path: &Path) -> Result<()> {
        self.vfs.sync_dir(path).map_err(|e| {
            self.unsure.store(true, Ordering::SeqCst);
            Error::io(path, "sync", &e)
        })
    }

    /// Puts a file in place whole and durable: written beside, synced, renamed, the
    /// directory synced. `write` gives the content; `before` is called with the path of the
    /// finished file before it gets its name.
    pub(crate) fn place<T>(
        &self,
        path: &Path,
        write: impl FnOnce(&dyn crate::vfs::VfsFile) -> io::Result<()>,
        before: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        self.check_attached(parent_of(path))?;
        self.place_in_held(path, write, before)
    }

    fn place_in_held<T>(
        &self,
        path: &Path,
        write: impl FnOnce(&dyn crate::vfs::VfsFile) -> io::Result<()>,
        before: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".tmp");
        let beside = PathBuf::from(beside);
        self.remove_if_there(&beside)?;
        let io = |operation| {
            let beside = beside.clone();
            move |e: io::Error| Error::io(&beside, operation, &e)
        };
        let file = self
            .files
            .open(&beside, OpenMode::CreateNew)
            .map_err(io("create"))?;
        let written = write(&*file)
            .map_err(io("write"))
            .and_then(|()| file.sync_all().map_err(io("sync")));
        if let Err(e) = written {
            // On a full disk it would keep room from others. What can't be removed is by the
            // next attempt.
            let _removed = self.vfs.remove(&beside);
            return Err(e);
        }
        let outcome = before(&beside)?;
        if let Err(e) = self.vfs.rename(&beside, path) {
            if !is_refusal(&e) {
                self.unsure.store(true, Ordering::SeqCst);
            }
            return Err(Error::io(path, "rename", &e));
        }
        self.sync_parent(path)?;
        Ok(outcome)
    }

    /// Puts a small file in place, if need be in the room of the ballast: what it says must
    /// be said on a full disk too.
    pub(crate) fn place_bytes(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.check_attached(parent_of(path))?;
        self.place_bytes_in_held(path, bytes)
    }

    /// As [`Layout::place_bytes`], also after the directory was moved: for what belongs to the
    /// files that were written there, wherever they are.
    pub(crate) fn place_bytes_in_held(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let write = |file: &dyn crate::vfs::VfsFile| write_all_at(file, &[IoSlice::new(bytes)], 0);
        match self.place_in_held(path, write, |_| Ok(())) {
            Err(Error::StorageFull { .. }) if self.release_ballast() => {
                self.place_in_held(path, write, |_| Ok(()))
            }
            placed => placed,
        }
    }

    fn release_ballast(&self) -> bool {
        self.ballasted.store(false, Ordering::SeqCst);
        self.vfs.remove(&self.ballast()).is_ok()
    }

    pub(crate) fn remove_if_there(&self, path: &Path) -> Result<()> {
        match self.vfs.remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path, "remove", &e)),
            _ => Ok(()),
        }
    }
}

/// Whether a rename was refused for want of memory or room, and so is known not to be done.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// A small file's bytes; `None` when there is no such file.
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
