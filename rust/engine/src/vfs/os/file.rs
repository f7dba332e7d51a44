//! One open file: reads, writes and syncs.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;

use crate::vfs::VfsFile;

// The syncs call the system directly, because those of the standard library are repeated after
// EINTR. Only the engine may decide whether a failed sync is repeated: after some errors the kernel
// has dropped the dirty pages, and a second sync succeeds without writing them.

#[cfg(not(target_vendor = "apple"))]
fn sync_data(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fdatasync(file)?)
}

#[cfg(not(target_vendor = "apple"))]
pub(super) fn sync_all(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fsync(file)?)
}

/// On Apple's systems `fsync` leaves the bytes in the drive's own cache; this call flushes it.
#[cfg(target_vendor = "apple")]
fn sync_data(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fcntl_fullfsync(file)?)
}

#[cfg(target_vendor = "apple")]
pub(super) fn sync_all(file: &File) -> io::Result<()> {
    sync_data(file)
}

/// An open file.
#[derive(Debug)]
pub(super) struct OsFile {
    file: File,
    #[cfg(target_os = "linux")]
    nowait: Nowait,
}

impl OsFile {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            #[cfg(target_os = "linux")]
            nowait: Nowait::default(),
        }
    }
}

impl VfsFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.nowait.read_at(&self.file, buf, offset)
    }

    #[cfg(not(target_os = "linux"))]
    fn read_at_nowait(&self, _buf: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
        Ok(None)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        // rustix passes no more slices than the system accepts; the rest is a short write.
        Ok(rustix::io::pwritev(&self.file, bufs, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        sync_data(&self.file)
    }

    fn sync_all(&self) -> io::Result<()> {
        sync_all(&self.file)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    #[cfg(not(target_vendor = "apple"))]
    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        use rustix::fs::{Advice, fadvise};
        let len = std::num::NonZeroU64::new(len);
        Ok(fadvise(&self.file, offset, len, Advice::DontNeed)?)
    }
}

/// Reads that are served from the page cache or not at all.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
struct Nowait {
    /// Set when the file system has refused such a read: trying again would cost a system call for
    /// each read and always fail. `Relaxed`, because the flag only saves that call; no other data
    /// depends on it.
    is_unsupported: std::sync::atomic::AtomicBool,
}

#[cfg(target_os = "linux")]
impl Nowait {
    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        use std::sync::atomic::Ordering;
        if self.is_unsupported.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut bufs = [io::IoSliceMut::new(buf)];
        match preadv2(file, &mut bufs, offset, ReadWriteFlags::NOWAIT) {
            Ok(n) => Ok(Some(n)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.is_unsupported.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }
}
