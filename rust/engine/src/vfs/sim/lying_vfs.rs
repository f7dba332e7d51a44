//! A disk whose syncs do nothing and report success. With it, a test of durability must fail.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::vfs::forward::ForwardingFile;
use crate::vfs::{Entry, LockFile, OpenMode, SharedPage, Vfs, VfsFile};

/// The calls that a [`LyingVfs`] reports as done without doing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lie {
    /// `sync_dir`.
    Directories,
    /// `sync_data` and `sync_all`.
    Files,
}

/// A file system whose syncs of one kind do nothing.
///
/// Put it around a [`super::RecordingVfs`] or a [`super::SimVfs`], not inside one: they must not
/// see the calls that it suppresses.
#[derive(Clone, Debug)]
pub struct LyingVfs {
    inner: Arc<dyn Vfs>,
    lie: Lie,
}

impl LyingVfs {
    /// Suppress the syncs of one kind of `inner`.
    pub fn new(inner: Arc<dyn Vfs>, lie: Lie) -> Self {
        Self { inner, lie }
    }
}

impl Vfs for LyingVfs {
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>> {
        let held = self.inner.hold(directory)?;
        Ok(Arc::new(Self {
            inner: held,
            lie: self.lie,
        }))
    }

    fn is_in_place(&self, directory: &Path) -> io::Result<bool> {
        self.inner.is_in_place(directory)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.inner.entry(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let file = self.inner.open(path, mode)?;
        Ok(match self.lie {
            Lie::Directories => file,
            Lie::Files => Arc::new(LyingFile { inner: file }),
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.lie {
            Lie::Directories => Ok(()),
            Lie::Files => self.inner.sync_dir(path),
        }
    }

    fn open_lock(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LockFile>> {
        self.inner.open_lock(path, create)
    }

    fn open_page(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn SharedPage>> {
        self.inner.open_page(path, mode)
    }

    fn unshareable(&self, directory: &Path) -> io::Result<Option<String>> {
        self.inner.unshareable(directory)
    }

    fn kernel(&self) -> u64 {
        self.inner.kernel()
    }

    fn since_boot_micros(&self) -> u64 {
        self.inner.since_boot_micros()
    }
    fn now_micros(&self) -> u64 {
        self.inner.now_micros()
    }

    fn uptime_micros(&self) -> u64 {
        self.inner.uptime_micros()
    }

    fn pause(&self, time: Duration) {
        self.inner.pause(time);
    }

    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        self.inner.random(buf)
    }

    fn at(&self, moment: &'static str) {
        self.inner.at(moment);
    }
}

#[derive(Debug)]
struct LyingFile {
    inner: Arc<dyn VfsFile>,
}

impl ForwardingFile for LyingFile {
    fn inner(&self) -> &dyn VfsFile {
        &*self.inner
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::super::{Persist, SimVfs};
    use super::*;

    /// Return what a power cut leaves of a file that was written and synced by all the rules.
    fn left_with(lie: Lie) -> io::Result<Vec<u8>> {
        let sim = SimVfs::tracked(1);
        let vfs = LyingVfs::new(Arc::new(sim.clone()), lie);
        let file = vfs.open(Path::new("f"), OpenMode::CreateNew).unwrap();
        file.write_vectored_at(&[IoSlice::new(b"bytes")], 0)
            .unwrap();
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        vfs.sync_dir(Path::new("/")).unwrap();
        sim.power_cut(Persist::Nothing).read_file(Path::new("f"))
    }

    #[test]
    fn without_file_syncs_the_bytes_are_lost() {
        assert_eq!(left_with(Lie::Files).unwrap(), b"");
    }

    #[test]
    fn without_directory_syncs_the_file_is_lost() {
        assert!(left_with(Lie::Directories).is_err());
    }
}
