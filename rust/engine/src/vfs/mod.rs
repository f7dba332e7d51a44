//! The file system as the engine uses it: all I/O is behind the trait [`Vfs`].
//!
//! [`os::OsVfs`] calls the operating system. [`sim::SimVfs`] is in memory, and can lose power, tear
//! writes and fail calls on demand. No other module of the engine opens a file, so a test can
//! expose a store to every behaviour of a disk.
//!
//! What every implementation guarantees, and what the rest of the engine relies on:
//!
//! * A write is visible to every reader when the call returns, and durable only after a sync of
//!   the file. A name is durable only after a sync of its directory.
//! * Calls return errors as the operating system reports them. No implementation retries a sync
//!   or hides a short write.
//! * A lock belongs to one [`LockFile`] and is released when its process ends.
//! * The words of a shared page are sequentially consistent across all processes.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub mod forward;
pub mod os;
pub mod sim;
#[cfg(test)]
mod tests;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMode {
    /// For reading and writing; the file must not exist yet. It is created with the owner of its
    /// directory and with the directory's access rights for owner and group; other users get none.
    CreateNew,
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    ReadWrite,
}

/// What is at a path.
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
/// A change of the directory tree is durable only after [`Vfs::sync_dir`] of the directory that
/// contains the name.
pub trait Vfs: Debug + Send + Sync + 'static {
    /// Open a directory, and return a file system that resolves all paths in that directory
    /// relative to the open directory, even if the directory's path names another one later. A
    /// subdirectory is held in the same way from its first use.
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>>;
    /// Whether the path of a held directory (see [`Vfs::hold`]) still names that directory.
    fn is_in_place(&self, directory: &Path) -> io::Result<bool>;
    /// Create one directory, which must not exist yet. In a held directory (see [`Vfs::hold`]), the
    /// new directory gets the owner of its parent, and the parent's access rights for owner and
    /// group; other users get no access. Elsewhere only its owner has access.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Return what is at `path`; `None` if there is nothing.
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>>;
    /// The names in a directory, in ascending order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Open a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>>;
    /// Rename a file. If there is a file at `to`, replace it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Remove a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Make the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Open a file or a directory in order to lock it. With `create`, a missing file is created,
    /// empty and accessible by its owner only.
    fn open_lock(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LockFile>> {
        let _ = (path, create);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Open a file as memory that is shared with all processes that open it. With
    /// [`OpenMode::CreateNew`] it is created with all blocks allocated and all words 0. An existing
    /// file must have the size of a shared page. Its words can be written in every mode.
    fn open_page(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn SharedPage>> {
        let _ = (path, mode);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Return why several processes can't share the files in a directory, as text for an error
    /// message: its file system is on a network, or in user space. `None` if they can.
    fn unshareable(&self, directory: &Path) -> io::Result<Option<String>> {
        let _ = directory;
        Ok(Some("this file system has no shared memory".to_owned()))
    }
    /// Return a number that differs for every kernel and every boot of a machine; 0 if it is
    /// unknown. Some containers have a number of their own.
    fn kernel(&self) -> u64 {
        0
    }
    /// Microseconds since the Unix epoch, UTC.
    fn now_micros(&self) -> u64;
    /// Microseconds of a monotonic clock that all processes of the machine share and that stops
    /// while the machine is suspended.
    fn uptime_micros(&self) -> u64 {
        self.now_micros()
    }
    /// Microseconds since boot, of a monotonic clock that also runs while the machine is suspended.
    /// Without such a clock, the same as [`Vfs::uptime_micros`].
    fn since_boot_micros(&self) -> u64 {
        self.uptime_micros()
    }
    /// Sleep before the caller checks again what another process has done. A simulation may run the
    /// other process instead.
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
    /// Fill `buf` with random bytes that are suitable for secrets.
    fn random(&self, buf: &mut [u8]) -> io::Result<()>;
    /// Called at a named moment without I/O at which a crash must do no harm, such as the
    /// publication of a new tail. A simulation may crash there, and a test may stop the thread
    /// there.
    fn at(&self, moment: &'static str) {
        let _ = moment;
    }
}

/// An open file. All methods take `&self` and may be called from many threads.
pub trait VfsFile: Debug + Send + Sync + 'static {
    /// Read at `offset`. Return the number of bytes read, 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Read as [`VfsFile::read_at`] does, but return `None` instead of waiting for a disk.
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;
    /// Write at `offset`. Return the number of bytes written, which may be fewer than given.
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Make the file's data durable, and as much of its metadata (the size) as reading the data
    /// needs.
    fn sync_data(&self) -> io::Result<()>;
    /// Make data and metadata durable.
    fn sync_all(&self) -> io::Result<()>;
    /// The size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Drop the clean cached pages of `len` bytes from `offset`, so that the next read comes from
    /// the disk. After a failed sync the cache and the disk may differ. The file system may ignore
    /// the call, and has nothing to do if it has no cache.
    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Ok(())
    }
}

/// How a [`LockFile`] is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// By one [`LockFile`] only.
    Exclusive,
    /// Together with other [`LockFile`]s that hold it in shared mode.
    Shared,
}

/// A file or a directory that was opened in order to lock it.
///
/// The lock belongs to this value, as a `flock` belongs to an open file description: every other
/// `LockFile` of the same path competes with it, in this process and in others. The lock is
/// released by [`LockFile::unlock`], when the value is dropped, and when the process ends for any
/// reason. A forked child doesn't inherit it.
pub trait LockFile: Debug + Send + Sync + 'static {
    /// Acquire the lock if it is free, and return whether it was acquired. If this value already
    /// holds the lock, convert it to the other mode. The conversion is not atomic: another holder
    /// may acquire the lock in between. If the conversion fails, this value no longer holds the
    /// lock.
    fn try_lock(&self, hold: Hold) -> io::Result<bool>;
    /// Release the lock, if it is held.
    fn unlock(&self) -> io::Result<()>;
    /// Whether the path still names the file that was opened.
    fn is_in_place(&self) -> io::Result<bool>;
    /// Return a number that differs for all files that exist at the same time.
    fn number(&self) -> io::Result<u64>;
    /// The number of names that the file has. A symbolic link to it is one more name.
    fn links(&self) -> io::Result<u64> {
        Ok(1)
    }
}

/// The number of words in a [`SharedPage`].
pub const PAGE_WORDS: usize = 8 * 1024;

/// A file of [`PAGE_WORDS`] words that several processes have mapped as memory.
///
/// It is never durable: the words survive the processes, and after a power cut they may have any
/// value. All operations are sequentially consistent, across processes, too. A word out of range
/// reads as 0 and is not written.
pub trait SharedPage: Debug + Send + Sync + 'static {
    /// Return a word.
    fn load(&self, word: usize) -> u64;
    /// Set a word.
    fn store(&self, word: usize, value: u64);
    /// Add to a word, wrapping around. Return its previous value.
    fn add(&self, word: usize, n: u64) -> u64;
    /// Raise a word to `value`, unless it is higher. Return its previous value.
    fn raise(&self, word: usize, value: u64) -> u64;
    /// Set a word if its value is `current`. Return whether the word was set.
    fn exchange(&self, word: usize, current: u64, value: u64) -> bool;
    /// Sleep until a thread of any process calls [`SharedPage::wake`] for the word or the timeout
    /// is over. Return at once if the lower half of the word differs from that of `seen`. The wait
    /// may also end for no reason.
    fn wait(&self, word: usize, seen: u64, timeout: Duration);
    /// Wake all threads of all processes that wait for the word.
    fn wake(&self, word: usize);
    /// Whether the path still names the file.
    fn is_in_place(&self) -> io::Result<bool>;
    /// Return a number that differs for all files that exist at the same time. A copy of the file
    /// has another number.
    fn number(&self) -> io::Result<u64>;
    /// Return the number by which this kernel identifies the file's file system; 0 if it is
    /// unknown.
    fn device(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// The directory that a path is in.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Read until `buf` is full or the file ends. Return the number of bytes read.
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

/// Write all of `bufs`; continue after short writes and interrupts.
///
/// # Errors
/// The first error of the file, or `WriteZero`. Some bytes may have been written before the error.
pub fn write_all_at(file: &dyn VfsFile, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
    write_counting(file, bufs, offset).map_err(|(error, _)| error)
}

/// Write as [`write_all_at`] does. An error contains the number of bytes that were written before
/// it.
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
