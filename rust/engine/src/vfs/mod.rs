//! All I/O of the engine, behind one trait.
//!
//! [`os::OsVfs`] talks to the operating system; [`sim::SimVfs`] keeps everything in memory,
//! and can lose power, tear writes and fail calls on demand. Nothing else in the engine
//! opens a file, so whatever a disk can do to a store, a test can do to it too.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub mod os;
pub mod sim;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMode {
    /// Must not exist yet; read and written. Made readable by its owner only.
    CreateNew,
    /// Must exist; read only.
    Read,
    /// Must exist; read and written.
    ReadWrite,
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// A directory.
    Directory,
    /// A regular file of this many bytes.
    File(u64),
    /// Something else: a socket, a device.
    Other,
}

/// A file system.
///
/// Every change of the directory tree is durable only after [`Vfs::sync_dir`] of the
/// directory that holds the name.
pub trait Vfs: Debug + Send + Sync + 'static {
    /// Makes one directory, accessible by its owner only. An existing one is an error.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// What stands at `path`; `None` when nothing does.
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>>;
    /// The names in a directory, in ascending order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>>;
    /// Renames a file over whatever is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Tries to take an exclusive lock on a directory without waiting: `None` when somebody
    /// else holds it. The lock is freed when the value is dropped or its process dies.
    fn try_lock_dir(&self, path: &Path) -> io::Result<Option<Box<dyn VfsLock>>>;
    /// Microseconds since the Unix epoch, UTC.
    fn now_micros(&self) -> u64;
    /// Fills `buf` from a source fit for secrets.
    fn random(&self, buf: &mut [u8]) -> io::Result<()>;
    /// Names a moment that is no I/O but at which a crash must be harmless, such as the
    /// publication of a new tail. The simulation may crash there.
    fn at(&self, moment: &'static str) {
        let _ = moment;
    }
}

/// An open file. All methods take `&self` and may be called from many threads.
pub trait VfsFile: Debug + Send + Sync + 'static {
    /// Reads at `offset`; returns how many bytes, 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As [`VfsFile::read_at`] if that needs no wait for a disk, else `None`.
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;
    /// Writes at `offset`; returns how many bytes, which may be fewer than given.
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Makes the file's data, and the size it needs to be read back, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes data and metadata durable.
    fn sync_all(&self) -> io::Result<()>;
    /// The size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Has what is cached of `len` bytes from `offset`, as far as it is clean, read from the
    /// disk again: after a failed sync the two may differ. An advice, which a file system
    /// without a cache has followed already.
    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Ok(())
    }
}

/// A held lock; dropping it frees it.
pub trait VfsLock: Debug + Send + Sync + 'static {}

/// Reads until `buf` is full or the file ends; returns how many bytes.
pub fn read_full(file: &dyn VfsFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes all of `bufs`, going on after short writes and interrupts.
///
/// # Errors
/// The first error of the file, or `WriteZero`. Some bytes may have been written by then.
pub fn write_all_at(file: &dyn VfsFile, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
    write_counting(file, bufs, offset).map_err(|(error, _)| error)
}

/// As [`write_all_at`]; an error comes with the number of bytes that were written before it.
pub(crate) fn write_counting(
    file: &dyn VfsFile,
    bufs: &[IoSlice<'_>],
    offset: u64,
) -> Result<(), (io::Error, usize)> {
    let total: usize = bufs.iter().map(|b| b.len()).sum();
    let mut done = 0;
    let mut skipped: Vec<IoSlice<'_>>;
    let mut rest = bufs;
    while done < total {
        match file.write_vectored_at(rest, offset + done as u64) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), done)),
            Ok(n) => {
                done += n;
                if done < total {
                    skipped = skip(bufs, done);
                    rest = &skipped;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((e, done)),
        }
    }
    Ok(())
}

fn skip<'a>(bufs: &'a [IoSlice<'_>], mut n: usize) -> Vec<IoSlice<'a>> {
    let mut rest = Vec::with_capacity(bufs.len());
    for buf in bufs {
        if n >= buf.len() {
            n -= buf.len();
        } else if let Some(tail) = buf.get(n..) {
            rest.push(IoSlice::new(tail));
            n = 0;
        }
    }
    rest
}
