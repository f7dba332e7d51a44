//! Files that forward their calls to another file, and change some of the calls.

use std::fmt::Debug;
use std::io::{self, IoSlice};

use super::VfsFile;

/// A [`VfsFile`] in front of another one. Each call goes to [`ForwardingFile::inner`], unless
/// the type has a call of its own.
pub trait ForwardingFile: Debug + Send + Sync + 'static {
    /// The file that gets the calls.
    fn inner(&self) -> &dyn VfsFile;

    /// As [`VfsFile::read_at`].
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner().read_at(buf, offset)
    }

    /// As [`VfsFile::read_at_nowait`].
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.inner().read_at_nowait(buf, offset)
    }

    /// As [`VfsFile::write_vectored_at`].
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.inner().write_vectored_at(bufs, offset)
    }

    /// As [`VfsFile::sync_data`].
    fn sync_data(&self) -> io::Result<()> {
        self.inner().sync_data()
    }

    /// As [`VfsFile::sync_all`].
    fn sync_all(&self) -> io::Result<()> {
        self.inner().sync_all()
    }

    /// As [`VfsFile::size`].
    fn size(&self) -> io::Result<u64> {
        self.inner().size()
    }

    /// As [`VfsFile::drop_cache`].
    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner().drop_cache(offset, len)
    }
}

impl<F: ForwardingFile> VfsFile for F {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        ForwardingFile::read_at(self, buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        ForwardingFile::read_at_nowait(self, buf, offset)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        ForwardingFile::write_vectored_at(self, bufs, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        ForwardingFile::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        ForwardingFile::sync_all(self)
    }

    fn size(&self) -> io::Result<u64> {
        ForwardingFile::size(self)
    }

    fn drop_cache(&self, offset: u64, len: u64) -> io::Result<()> {
        ForwardingFile::drop_cache(self, offset, len)
    }
}
