//! A file system that calls the test before each attempt to lock the store.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use eventbraid_engine::vfs::sim::SimVfs;
use eventbraid_engine::vfs::{Entry, Hold, LockFile, OpenMode, SharedPage, Vfs, VfsFile};

use super::ROOT;

pub(crate) type Hook = Arc<dyn Fn(&dyn LockFile, Hold) -> Option<bool> + Send + Sync>;

/// A file system that calls a hook before it locks the store. If the hook returns a result, that
/// is the result of the lock.
#[derive(Clone)]
pub(crate) struct LockedVfs {
    disk: SimVfs,
    hook: Hook,
}

impl LockedVfs {
    pub(crate) fn new(
        disk: &SimVfs,
        hook: impl Fn(&dyn LockFile, Hold) -> Option<bool> + Send + Sync + 'static,
    ) -> Self {
        Self {
            disk: disk.clone(),
            hook: Arc::new(hook),
        }
    }
}

impl fmt::Debug for LockedVfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedVfs").finish_non_exhaustive()
    }
}

impl Vfs for LockedVfs {
    fn hold(&self, directory: &Path) -> io::Result<Arc<dyn Vfs>> {
        Ok(Arc::new(Self {
            disk: self.disk.holding(directory)?,
            hook: Arc::clone(&self.hook),
        }))
    }
    fn is_in_place(&self, directory: &Path) -> io::Result<bool> {
        self.disk.is_in_place(directory)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn entry(&self, path: &Path) -> io::Result<Option<Entry>> {
        self.disk.entry(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        self.disk.open(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn open_lock(&self, path: &Path, create: bool) -> io::Result<Arc<dyn LockFile>> {
        let lock = self.disk.open_lock(path, create)?;
        if path != Path::new(ROOT) {
            return Ok(lock);
        }
        let hook = Arc::clone(&self.hook);
        Ok(Arc::new(HookedLock { lock, hook }))
    }
    fn open_page(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn SharedPage>> {
        self.disk.open_page(path, mode)
    }
    fn unshareable(&self, directory: &Path) -> io::Result<Option<String>> {
        self.disk.unshareable(directory)
    }
    fn kernel(&self) -> u64 {
        self.disk.kernel()
    }
    fn since_boot_micros(&self) -> u64 {
        self.disk.since_boot_micros()
    }
    fn now_micros(&self) -> u64 {
        self.disk.now_micros()
    }
    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        self.disk.random(buf)
    }
}

pub(crate) struct HookedLock {
    lock: Arc<dyn LockFile>,
    hook: Hook,
}

impl fmt::Debug for HookedLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedLock").finish_non_exhaustive()
    }
}

impl LockFile for HookedLock {
    fn try_lock(&self, hold: Hold) -> io::Result<bool> {
        match (self.hook)(&*self.lock, hold) {
            Some(answer) => Ok(answer),
            None => self.lock.try_lock(hold),
        }
    }
    fn unlock(&self) -> io::Result<()> {
        self.lock.unlock()
    }
    fn is_in_place(&self) -> io::Result<bool> {
        self.lock.is_in_place()
    }
    fn number(&self) -> io::Result<u64> {
        self.lock.number()
    }
}
