//! Directories that stay open, so that their files are reached whatever the path names later.
//!
//! A path is looked up anew with each call: after `chdir`, or once a directory above was
//! renamed or a symbolic link turned, it leads elsewhere. A store that is open reaches its files
//! relative to descriptors of its directories instead, and compares what the path names with
//! what is held before it makes a new file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::lock::Mutex;
use crate::vfs::parent_of;

/// A directory and those in it that were used, all open.
#[derive(Debug)]
pub(super) struct Held {
    /// The path that it is known by.
    root: PathBuf,
    /// The same, from the root of the file system.
    absolute: PathBuf,
    /// By the path below `root`, which itself has the empty one.
    directories: Mutex<HashMap<PathBuf, Arc<File>>>,
}

/// A name, and the directory that it is looked up in.
#[derive(Debug)]
pub(super) struct At {
    directory: Option<Arc<File>>,
    pub(super) name: PathBuf,
}

impl At {
    /// A path that is looked up from its beginning.
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

    /// Makes a file that must not exist yet. In a directory that is held it gets the owner and
    /// the access rights of the directory.
    pub(super) fn create(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = self.open(flags, Mode::RUSR | Mode::WUSR)?;
        let allowed = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP;
        self.adopt(&file, allowed)
            .inspect_err(|_| drop(self.remove()))?;
        Ok(file)
    }

    /// Makes a directory that must not exist yet, in the same way.
    pub(super) fn create_dir(&self) -> io::Result<()> {
        rustix::fs::mkdirat(self.directory(), &self.name, Mode::RWXU)?;
        if self.directory.is_none() {
            return Ok(());
        }
        self.adopt(&self.open_dir()?, Mode::RWXU | Mode::RWXG | Mode::SGID)
    }

    /// Gives what was made the owner of the directory that holds it, and those of the access
    /// rights `allowed` that the directory gives to its owner and its group: whoever may use the
    /// store must be able to use every file in it, whichever user's process made the file, and
    /// whatever umask that process had.
    fn adopt(&self, made: &File, allowed: Mode) -> io::Result<()> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let (parent, own) = (rustix::fs::fstat(directory)?, rustix::fs::fstat(made)?);
        let mut rights = Mode::from_raw_mode(parent.st_mode) & allowed | (allowed & Mode::RWXU);
        let uid = (own.st_uid != parent.st_uid).then(|| Uid::from_raw(parent.st_uid));
        let gid = (own.st_gid != parent.st_gid).then(|| Gid::from_raw(parent.st_gid));
        if (uid.is_some() || gid.is_some()) && !chown(made, uid, gid)? && !chown(made, None, gid)? {
            // The group would be another one than the directory's.
            rights -= Mode::RWXG;
        }
        if Mode::from_raw_mode(own.st_mode) != rights {
            rustix::fs::fchmod(made, rights)?;
        }
        Ok(())
    }

    /// Whether the name is that of a symbolic link.
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

/// Changes the owner, where this process may; only a privileged one may give a file away.
fn chown(file: &File, uid: Option<Uid>, gid: Option<Gid>) -> io::Result<bool> {
    match rustix::fs::fchown(file, uid, gid) {
        Ok(()) => Ok(true),
        // An id that has no meaning in this user namespace is invalid.
        Err(Errno::PERM | Errno::INVAL) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

impl Held {
    /// Opens the directory that is known as `root` and is at `absolute`.
    pub(super) fn open(root: &Path, absolute: PathBuf) -> io::Result<Self> {
        let directory = Arc::new(At::path(&absolute).open_dir()?);
        Ok(Self {
            root: root.to_path_buf(),
            absolute,
            directories: Mutex::new(HashMap::from([(PathBuf::new(), directory)])),
        })
    }

    /// Where a path is to be looked up, if it leads into the directory, or to its parent.
    pub(super) fn at(&self, path: &Path) -> io::Result<Option<At>> {
        let Some(below) = self.below(path) else {
            // Only now: the parent of `.` is spelled `.`, too.
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

    /// A path in the directory, from the root of the file system.
    pub(super) fn absolute(&self, path: &Path) -> Option<PathBuf> {
        self.below(path).map(|below| self.absolute.join(below))
    }

    fn name_in(&self, directory: &Path, name: &Path) -> io::Result<At> {
        Ok(At {
            directory: Some(self.directory(directory)?),
            name: name.to_path_buf(),
        })
    }

    fn below<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let below = path.strip_prefix(&self.root).ok()?;
        let is_plain = |component| matches!(component, Component::Normal(_));
        below.components().all(is_plain).then_some(below)
    }

    /// The open directory of a path that is in the one held, if it is.
    pub(super) fn of_path(&self, path: &Path) -> io::Result<Option<Arc<File>>> {
        self.below(path)
            .map(|below| self.directory(below))
            .transpose()
    }

    /// An open directory below the one held; opened when it is first used, and kept.
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

    /// Whether the path of a directory names the one that is open.
    pub(super) fn is_in_place(&self, path: &Path) -> io::Result<bool> {
        match (self.of_path(path)?, self.absolute(path)) {
            (Some(held), Some(absolute)) => super::same_file::names(&absolute, &held),
            _ => Ok(true),
        }
    }
}
