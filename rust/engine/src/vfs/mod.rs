//! All I/O of the engine, behind one trait.
//!
//! [`os::OsVfs`] talks to the operating system; [`sim::SimVfs`] keeps everything in memory,
//! and can lose power, tear writes and fail calls on demand. Nothing else in the engine
//! opens a file, so whatever a disk can do to a store, a test can do to it too.

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
    /// Must not exist yet; read and written. Made with the owner and the access rights of the
    /// directory that holds it, but for others than its owner and its group.
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
    /// Opens a directory and returns the file system in which all paths below its path are
    /// looked up relative to the open directory, whatever the path names later. A directory in
    /// it is held in the same way from its first use.
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>>;
    /// Whether the path of a directory that [`Vfs::hold`] holds still names that directory.
    fn is_in_place(&self, directory: &Path) -> io::Result<bool>;
    /// Makes one directory. An existing one is an error. In a directory that [`Vfs::hold`] holds
    /// it gets the owner and the access rights of that one, but for others than its owner and
    /// its group; elsewhere it is accessible by its owner only.
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
    /// Opens a file or a directory in order to lock it. With `create` a file that is missing is
    /// made, empty and its owner's alone.
    fn open_lock(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LockFile>> {
        let _ = (path, create);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Opens a file as memory that is shared with all others who open it. With
    /// [`OpenMode::CreateNew`] it is made, all its blocks allocated, all words 0; an existing
    /// one must have the size of a page, and is written too, whatever the mode says.
    fn open_page(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn SharedPage>> {
        let _ = (path, mode);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Why several processes can't share files in a directory, for people: it is on a network,
    /// or a program answers for it. `None` where they can.
    fn unshareable(&self, directory: &Path) -> io::Result<Option<String>> {
        let _ = directory;
        Ok(Some("this file system has no shared memory".to_owned()))
    }
    /// What tells the kernel that runs now from any other, an earlier run of the same machine
    /// included; 0 where that isn't known. Some containers are shown a number of their own.
    fn kernel(&self) -> u64 {
        0
    }
    /// Microseconds since the Unix epoch, UTC.
    fn now_micros(&self) -> u64;
    /// Microseconds by a clock that all processes of the machine share, that nobody can set,
    /// and that stands still while the machine sleeps.
    fn uptime_micros(&self) -> u64 {
        self.now_micros()
    }
    /// Microseconds since the machine was started, by a clock that nobody can set and that goes
    /// on while the machine sleeps, where there is one.
    fn since_boot_micros(&self) -> u64 {
        self.uptime_micros()
    }
    /// Sleeps, to look then whether another process has gone on. The simulation has the other
    /// process go on instead.
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
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

/// How a [`LockFile`] is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// By one opening alone.
    Exclusive,
    /// Beside other openings that hold it shared.
    Shared,
}

/// A file or a directory that was opened in order to lock it.
///
/// The lock belongs to this opening: any other opening of the same path competes with it, in
/// this process as in others. It is freed by [`LockFile::unlock`], by dropping the value, and
/// when the process dies, whatever kills it. A forked child holds none of its parent's.
pub trait LockFile: Debug + Send + Sync + 'static {
    /// Takes the lock if that needs no wait, and answers whether it did. A lock that is held
    /// already is held as asked for from then on; that change is not atomic, others may come
    /// between, and where it fails nothing is held.
    fn try_lock(&self, hold: Hold) -> io::Result<bool>;
    /// Frees the lock, if it is held.
    fn unlock(&self) -> io::Result<()>;
    /// Whether the path still names what was opened.
    fn is_in_place(&self) -> io::Result<bool>;
    /// What tells the file from any other that is there at the same time.
    fn number(&self) -> io::Result<u64>;
    /// The number of names that the file has. A symbolic link to it is one more name.
    fn links(&self) -> io::Result<u64> {
        Ok(1)
    }
}

/// Words in a [`SharedPage`].
pub const PAGE_WORDS: usize = 8 * 1024;

/// A file of [`PAGE_WORDS`] words that several processes have in memory at once.
///
/// Nothing of it is ever durable: its words outlive the processes, and after a loss of power
/// are anything. All operations are sequentially consistent, across processes too. A word
/// that is out of range reads as 0 and is not written.
pub trait SharedPage: Debug + Send + Sync + 'static {
    /// A word.
    fn load(&self, word: usize) -> u64;
    /// Sets a word.
    fn store(&self, word: usize, value: u64);
    /// Adds to a word, wrapping around; answers what it was.
    fn add(&self, word: usize, n: u64) -> u64;
    /// Raises a word to `value` unless it is higher; answers what it was.
    fn raise(&self, word: usize, value: u64) -> u64;
    /// Sets a word if it is `current`; answers whether it was.
    fn exchange(&self, word: usize, current: u64, value: u64) -> bool;
    /// Sleeps until somebody calls [`SharedPage::wake`] for the word, the lower half of the
    /// word is not that of `seen`, the time is over, or for no reason.
    fn wait(&self, word: usize, seen: u64, timeout: Duration);
    /// Wakes all, of every process, that sleep at the word.
    fn wake(&self, word: usize);
    /// Whether the path still names the file.
    fn is_in_place(&self) -> io::Result<bool>;
    /// What tells the file from any other that is there at the same time, a copy of it
    /// included.
    fn number(&self) -> io::Result<u64>;
    /// The file system that this kernel knows the file to be on, as a number; 0 where that
    /// isn't known.
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
