//! `flock`: the kernel frees it when its holder dies, whatever kills it.

use std::io;
use std::path::PathBuf;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};

use super::fork::OwnFile;
use super::held_directory::At;
use super::same_file::is_at;
use crate::vfs::{Hold, LockFile};

#[derive(Debug)]
pub(super) struct OsLockFile {
    file: OwnFile,
    /// Whether it was reached through a symbolic link.
    is_symbolic: bool,
    path: PathBuf,
}

impl OsLockFile {
    /// Opens the file at `at`, which others find by `path`.
    pub(super) fn open(at: &At, path: PathBuf, create: bool) -> io::Result<Self> {
        let open = || {
            let found = at.stat();
            if found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_dir()) {
                return at.open_dir();
            }
            // Who opens a pipe would wait for its other end.
            let flags = OFlags::NONBLOCK;
            loop {
                match at.open(flags | OFlags::RDONLY, Mode::empty()) {
                    Err(e) if create && e.kind() == io::ErrorKind::NotFound => {}
                    opened => return opened,
                }
                match at.create() {
                    // Made by another process meanwhile.
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !at.is_symbolic() => {}
                    created => return created,
                }
            }
        };
        Ok(Self {
            file: OwnFile::open(open)?,
            is_symbolic: at.is_symbolic(),
            path,
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

    fn number(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(self.file.get()?)?.st_ino)
    }

    #[allow(
        clippy::useless_conversion,
        reason = "some systems have a smaller type"
    )]
    fn links(&self) -> io::Result<u64> {
        let names = u64::from(rustix::fs::fstat(self.file.get()?)?.st_nlink);
        Ok(names + u64::from(self.is_symbolic))
    }
}

impl Drop for OsLockFile {
    fn drop(&mut self) {
        // Before it is closed: a child that was made in a way that runs no handlers has the
        // file open too, and would keep the lock. In a child itself this fails.
        let _freed = self.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::vfs::Vfs as _;
    use crate::vfs::os::OsVfs;

    #[test]
    fn a_lock_file_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        OsVfs::new().open_lock(&path, true).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Whoever opens a pipe waits for its other end, and all forks would wait for the opening.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_is_opened_without_waiting_for_its_other_end() {
        use super::super::test_process::alone;
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        alone(
            "vfs::os::lock_file::tests::a_pipe_is_opened_without_waiting_for_its_other_end",
            || {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("pipe");
                mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
                for create in [false, true] {
                    OsVfs::new().open_lock(&path, create).unwrap();
                }
            },
        );
    }

    #[test]
    fn what_cant_be_opened_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _socket = UnixListener::bind(&path).unwrap();
        assert!(OsVfs::new().open_lock(&path, false).is_err());
        assert!(OsVfs::new().open_lock(&path.join("lock"), true).is_err());
    }

    #[test]
    fn a_directory_is_in_place_until_it_is_moved_or_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (here, away) = (dir.path().join("here"), dir.path().join("away"));
        fs::create_dir(&here).unwrap();
        let lock = OsVfs::new().open_lock(&here, false).unwrap();
        assert!(lock.try_lock(Hold::Exclusive).unwrap());
        fs::rename(&here, &away).unwrap();
        assert!(!lock.is_in_place().unwrap());
        fs::create_dir(&here).unwrap();
        assert!(!lock.is_in_place().unwrap());
        fs::remove_dir(&here).unwrap();
        fs::rename(&away, &here).unwrap();
        assert!(lock.is_in_place().unwrap());
    }

    #[test]
    fn a_lock_file_whose_directory_became_a_file_is_not_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let lock = OsVfs::new().open_lock(&inner.join("lock"), true).unwrap();
        fs::remove_dir_all(&inner).unwrap();
        assert!(!lock.is_in_place().unwrap());
        fs::write(&inner, b"").unwrap();
        assert!(!lock.is_in_place().unwrap());
    }
}
