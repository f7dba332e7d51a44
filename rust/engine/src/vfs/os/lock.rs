//! `flock`: the kernel frees it when its holder dies, whatever kills it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::fork::OwnFile;
use crate::vfs::{Hold, LockFile};

#[derive(Debug)]
pub(super) struct OsLockFile {
    file: OwnFile,
    path: PathBuf,
}

impl OsLockFile {
    pub(super) fn open(path: &Path, create: bool) -> io::Result<Self> {
        let open = || {
            if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
                return super::open_dir(path);
            }
            let mut options = OpenOptions::new(); // std sets O_CLOEXEC
            options.read(true);
            // Who opens a pipe would wait for its other end.
            options.custom_flags(libc::O_NONBLOCK);
            if create {
                options.write(true).create(true).mode(0o600);
            }
            options.open(path)
        };
        Ok(Self {
            file: OwnFile::open(open)?,
            path: path.to_path_buf(),
        })
    }

    fn flock(&self, operation: FlockOperation) -> io::Result<()> {
        Ok(rustix::fs::flock(self.file.get()?, operation)?)
    }
}

impl LockFile for OsLockFile {
    fn try_lock(&self, hold: Hold) -> io::Result<bool> {
        let operation = match hold {
            Hold::Exclusive => FlockOperation::NonBlockingLockExclusive,
            Hold::Shared => FlockOperation::NonBlockingLockShared,
        };
        match self.flock(operation) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        self.flock(FlockOperation::Unlock)
    }

    fn is_in_place(&self) -> io::Result<bool> {
        is_at(&rustix::fs::fstat(self.file.get()?)?, &self.path)
    }
}

impl Drop for OsLockFile {
    fn drop(&mut self) {
        // Before it is closed: a child that was made in a way that runs no handlers has the
        // file open too, and would keep the lock. In a child itself this fails.
        let _freed = self.unlock();
    }
}

/// Whether a path names an open file.
pub(super) fn is_at(open: &rustix::fs::Stat, path: &Path) -> io::Result<bool> {
    match rustix::fs::stat(path) {
        Ok(found) => Ok(found.st_dev == open.st_dev && found.st_ino == open.st_ino),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether a path names an open file.
pub(super) fn names(path: &Path, file: &File) -> io::Result<bool> {
    is_at(&rustix::fs::fstat(file)?, path)
}
