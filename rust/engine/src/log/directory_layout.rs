//! The paths of a store's files, and its directories.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::open_files::OpenFiles;
use crate::error::{Error, Result};
use crate::vfs::{Entry, Vfs, parent_of};

/// The directory of a store, and the paths in it. Clones share the flags and the open files.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) root: PathBuf,
    /// Set when a rename or the sync of a directory has failed: it is then unknown which names are
    /// on the disk. Never cleared. `SeqCst`, because no lock orders the threads that read it: after
    /// one thread has reported the failure, no other thread may write a manifest.
    names_are_unknown: Arc<AtomicBool>,
    /// The open files of the segments.
    pub(crate) files: Arc<OpenFiles>,
    /// Whether the ballast is known to exist. A hint that saves a look-up in the directory.
    pub(crate) has_ballast: Arc<AtomicBool>,
}

impl Layout {
    /// Open the directory, and return a layout that reaches the files through the open directory,
    /// even if the path later names another one.
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
            names_are_unknown: Arc::default(),
            has_ballast: Arc::default(),
        }
    }

    /// Whether a rename or the sync of a directory has failed. A second sync could succeed although
    /// names were lost, so no sync is tried until the store is opened again.
    pub(crate) fn is_unsure(&self) -> bool {
        self.names_are_unknown.load(Ordering::SeqCst)
    }

    /// Record that a rename or the sync of a directory has failed.
    pub(super) fn distrust_names(&self) {
        self.names_are_unknown.store(true, Ordering::SeqCst);
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

    /// The lock that a session holds while it begins or ends.
    pub(crate) fn boot(&self) -> PathBuf {
        self.locks().join("boot.lock")
    }

    /// The lock file of the session in a slot of the shared page.
    pub(crate) fn session_lock(&self, number: usize) -> PathBuf {
        self.locks().join(format!("session-{number}.lock"))
    }

    /// The memory that the processes of the store share.
    pub(crate) fn page(&self) -> PathBuf {
        self.root.join("coord.shm")
    }

    pub(crate) fn holder(&self) -> PathBuf {
        self.locks().join("live.holder")
    }

    pub(crate) fn segment(&self, ordinal: u64) -> PathBuf {
        self.log().join(format!("{ordinal:010}.hot"))
    }

    /// Return an error if the path of `directory` or the path of the store no longer names the
    /// directory that is open. A file that is created then would be missing for every session that
    /// opens the store by its path.
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

    /// Create a directory durably, unless it exists.
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
                    // Another process is creating the same store. The locks decide which of the two
                    // creates it.
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

    /// Sync as [`Layout::sync_parent`] does, if this process may open the directory. A directory of
    /// another user may not be readable.
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
            self.distrust_names();
            Error::io(path, "sync", &e)
        })
    }

    pub(crate) fn remove_if_there(&self, path: &Path) -> Result<()> {
        match self.vfs.remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path, "remove", &e)),
            _ => Ok(()),
        }
    }
}
