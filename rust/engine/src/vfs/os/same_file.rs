//! Whether a path still names an open file.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Whether a path names the file with this device and inode number.
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
