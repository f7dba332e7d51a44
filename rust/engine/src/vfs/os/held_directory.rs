//! Directories that are held open, so that their files are reached even if a path names another
//! directory later.
//!
//! The kernel resolves a path again at each call. After `chdir`, or when a parent directory was
//! renamed or a symbolic link changed, the same path leads elsewhere. An open store therefore
//! reaches its files relative to descriptors of its directories (`openat`), and before it creates
//! a file it checks that the path still names the directory that is open.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::mutex::Mutex;
use crate::vfs::parent_of;

/// A directory that is held open, and its subdirectories that have been used.
#[derive(Debug)]
pub(super) struct HeldDirectory {
    /// The path as the caller gave it.
    root: PathBuf,
    /// The absolute path.
    absolute: PathBuf,
    /// The open directories by their path below `root`; the path of `root` itself is empty. The
    /// lock is held to look up and to insert, never during a system call.
    directories: Mutex<HashMap<PathBuf, Arc<File>>>,
}

/// A name, and the open directory in which it is looked up.
#[derive(Debug)]
pub(super) struct PathAt {
    /// `None` for a path that the kernel resolves from the root or from the working directory.
    directory: Option<Arc<File>>,
    pub(super) name: PathBuf,
}

impl PathAt {
    /// A path that the kernel resolves from the root of the file system or from the working
    /// directory.
    pub(super) fn path(path: &Path) -> Self {
        Self {
            directory: None,
            name: path.to_path_buf(),
        }
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_ref().map_or(CWD, |held| held.as_fd())
    }

    pub(super) fn open(&self, flags: OFlags, mode: Mode) -> io::Result<File> {
        loop {
            match rustix::fs::openat(self.directory(), &self.name, flags | OFlags::CLOEXEC, mode) {
                Err(Errno::INTR) => {}
                opened => return Ok(File::from(opened?)),
            }
        }
    }

    pub(super) fn open_dir(&self) -> io::Result<File> {
        self.open(OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    pub(super) fn stat(&self) -> io::Result<rustix::fs::Stat> {
        let flags = rustix::fs::AtFlags::empty();
        Ok(rustix::fs::statat(self.directory(), &self.name, flags)?)
    }

    /// Create a file that must not exist yet. In a held directory it gets the owner and the access
    /// rights of the directory.
    pub(super) fn create(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = self.open(flags, Mode::RUSR | Mode::WUSR)?;
        let allowed = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP;
        self.copy_access(&file, allowed)
            .inspect_err(|_| drop(self.remove()))?;
        Ok(file)
    }

    /// Create a directory that must not exist yet, with owner and access rights as in `create`.
    pub(super) fn create_dir(&self) -> io::Result<()> {
        rustix::fs::mkdirat(self.directory(), &self.name, Mode::RWXU)?;
        if self.directory.is_none() {
            return Ok(());
        }
        self.copy_access(&self.open_dir()?, Mode::RWXU | Mode::RWXG | Mode::SGID)
    }

    /// Copy to a new file the owner of its parent directory, and those of the directory's access
    /// rights for owner and group that are in `allowed`. Every user who may use the store must be
    /// able to use every file in it, no matter which user's process has created the file and with
    /// which umask.
    fn copy_access(&self, created: &File, allowed: Mode) -> io::Result<()> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let (parent, own) = (rustix::fs::fstat(directory)?, rustix::fs::fstat(created)?);
        let mut rights = Mode::from_raw_mode(parent.st_mode) & allowed | (allowed & Mode::RWXU);
        let uid = (own.st_uid != parent.st_uid).then(|| Uid::from_raw(parent.st_uid));
        let gid = (own.st_gid != parent.st_gid).then(|| Gid::from_raw(parent.st_gid));
        if (uid.is_some() || gid.is_some())
            && !chown(created, uid, gid)?
            && !chown(created, None, gid)?
        {
            // The file keeps the group of this process. That is another group than the directory's,
            // and must not get the rights of the directory's group.
            rights -= Mode::RWXG;
        }
        if Mode::from_raw_mode(own.st_mode) != rights {
            rustix::fs::fchmod(created, rights)?;
        }
        Ok(())
    }

    /// Whether the name refers to a symbolic link.
    pub(super) fn is_symbolic(&self) -> bool {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        let found = rustix::fs::statat(self.directory(), &self.name, flags);
        found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_symlink())
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        let flags = rustix::fs::AtFlags::empty();
        Ok(rustix::fs::unlinkat(self.directory(), &self.name, flags)?)
    }
}

/// Change the owner. Return whether this process is allowed to: only a privileged process may give
/// a file to another user.
fn chown(file: &File, uid: Option<Uid>, gid: Option<Gid>) -> io::Result<bool> {
    match rustix::fs::fchown(file, uid, gid) {
        Ok(()) => Ok(true),
        // An id that has no meaning in this user namespace is invalid.
        Err(Errno::PERM | Errno::INVAL) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

impl HeldDirectory {
    /// Open the directory at the path `root`, whose absolute path is `absolute`.
    pub(super) fn open(root: &Path, absolute: PathBuf) -> io::Result<Self> {
        let directory = Arc::new(PathAt::path(&absolute).open_dir()?);
        Ok(Self {
            root: root.to_path_buf(),
            absolute,
            directories: Mutex::new(HashMap::from([(PathBuf::new(), directory)])),
        })
    }

    /// Return the open directory and the name by which a path is reached, if the path is in the
    /// held directory or is its parent; `None` for any other path.
    pub(super) fn at(&self, path: &Path) -> io::Result<Option<PathAt>> {
        let Some(below) = self.below(path) else {
            // This is checked only if the path is not in the directory: the parent of `.` is
            // written as `.`, too.
            let is_parent = parent_of(&self.root) == path;
            let parent = is_parent.then(|| self.name_in(Path::new(""), Path::new("..")));
            return parent.transpose();
        };
        let at = match (below.parent(), below.file_name()) {
            (Some(parent), Some(name)) => self.name_in(parent, Path::new(name)),
            _ => self.name_in(Path::new(""), Path::new(".")),
        };
        at.map(Some)
    }

    /// The absolute path of a path in the directory.
    pub(super) fn absolute(&self, path: &Path) -> Option<PathBuf> {
        self.below(path).map(|below| self.absolute.join(below))
    }

    fn name_in(&self, directory: &Path, name: &Path) -> io::Result<PathAt> {
        Ok(PathAt {
            directory: Some(self.directory(directory)?),
            name: name.to_path_buf(),
        })
    }

    /// The part of a path below the held directory, if it has no `..`.
    fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let below = path.strip_prefix(&self.root).ok()?;
        let is_plain = |component| matches!(component, Component::Normal(_));
        below.components().all(is_plain).then_some(below)
    }

    /// The open directory at a path in the held directory; `None` for a path elsewhere.
    pub(super) fn of_path(&self, path: &Path) -> io::Result<Option<Arc<File>>> {
        self.below(path)
            .map(|below| self.directory(below))
            .transpose()
    }

    /// The open directory at a path below `root`. It is opened at its first use and then kept.
    fn directory(&self, below: &Path) -> io::Result<Arc<File>> {
        if let Some(held) = self.directories.lock().get(below) {
            return Ok(Arc::clone(held));
        }
        let (Some(parent), Some(name)) = (below.parent(), below.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        let at = self.name_in(parent, Path::new(name))?;
        let opened = Arc::new(at.open_dir()?);
        let mut directories = self.directories.lock();
        let held = directories.entry(below.to_path_buf()).or_insert(opened);
        Ok(Arc::clone(held))
    }

    /// Whether the path of a directory still names the directory that is open.
    pub(super) fn is_in_place(&self, path: &Path) -> io::Result<bool> {
        match (self.of_path(path)?, self.absolute(path)) {
            (Some(held), Some(absolute)) => super::same_file::names(&absolute, &held),
            _ => Ok(true),
        }
    }
}
