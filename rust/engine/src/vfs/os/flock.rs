//! File locks by `flock`. The kernel releases them when the process ends, however it ends.
//!
//! The locks are those of `flock` and not of `fcntl`. A lock of `fcntl` belongs to the process: two
//! sessions in one process would not exclude each other, and the lock is lost when the process
//! closes any descriptor of the file.

use std::io;
use std::path::PathBuf;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};

use super::fork::ForkClosedFile;
use super::held_directory::PathAt;
use super::same_file::is_at;
use crate::vfs::{Hold, LockFile};

#[derive(Debug)]
pub(super) struct OsLockFile {
    file: ForkClosedFile,
    /// Whether the path is that of a symbolic link, which counts as a second name.
    is_symbolic: bool,
    /// The path by which other processes find the file.
    path: PathBuf,
}

impl OsLockFile {
    /// Open the file at `at`, which other processes find by `path`.
    pub(super) fn open(at: &PathAt, path: PathBuf, create: bool) -> io::Result<Self> {
        let open = || {
            let found = at.stat();
            if found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode).is_dir()) {
                return at.open_dir();
            }
            // Without this flag, opening a pipe would wait for its other end.
            let flags = OFlags::NONBLOCK;
            loop {
                match at.open(flags | OFlags::RDONLY, Mode::empty()) {
                    Err(e) if create && e.kind() == io::ErrorKind::NotFound => {}
                    opened => return opened,
                }
                match at.create() {
                    // Another process has created the file meanwhile. Open that file in the next
                    // round.
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !at.is_symbolic() => {}
                    created => return created,
                }
            }
        };
        Ok(Self {
            file: ForkClosedFile::open(open)?,
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
        // The file is unlocked before it is closed. A child that was created by a raw `clone` runs
        // no fork handlers, so it has the file open, too, and would keep the lock. In a forked
        // child the call fails.
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
    fn a_lock_file_is_accessible_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        OsVfs::new().open_lock(&path, true).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// A blocking open of a pipe waits for its other end, and every fork would wait for the open.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_is_opened_without_waiting_for_its_other_end() {
        use super::super::test_process::run_alone;
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        run_alone(
            "vfs::os::flock::tests::a_pipe_is_opened_without_waiting_for_its_other_end",
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
    fn a_socket_can_not_be_opened_as_a_lock_file() {
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
