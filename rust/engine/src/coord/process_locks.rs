//! Locks between processes, each combined with a lock between the threads of this process.
//!
//! The kernel releases the locks of a process when that process ends, for any reason. If a lock
//! file was deleted and created again, two processes could lock two files under the same path. So
//! the path is checked again after each lock is acquired.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lock_timeout::RECHECK;
use crate::error::{Error, Result};
use crate::mutex::{Mutex, MutexGuard};
use crate::vfs::{Hold, LockFile, Vfs};

/// An open lock file of the store.
#[derive(Clone, Debug)]
pub(crate) struct Lock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    vfs: Arc<dyn Vfs>,
    file: Arc<dyn LockFile>,
    path: PathBuf,
    /// Whether a thread of this process holds the lock exclusively. The kernel's lock belongs to
    /// the open file, so without this flag a second thread of the process would acquire it as well.
    is_locked: AtomicBool,
}

impl Lock {
    pub(crate) fn open(vfs: &Arc<dyn Vfs>, path: PathBuf, create: bool) -> Result<Self> {
        let file = vfs.open_lock(&path, create);
        let file = file.map_err(|e| Error::io(&path, "lock", &e))?;
        let is_locked = AtomicBool::new(false);
        Ok(Self(Arc::new(Inner {
            vfs: Arc::clone(vfs),
            file,
            path,
            is_locked,
        })))
    }

    /// Try to acquire this lock in exclusive or shared mode. Return `false` if another process
    /// holds a conflicting lock.
    pub(crate) fn try_lock(&self, hold: Hold) -> Result<bool> {
        let error = |e| Error::io(&self.0.path, "lock", &e);
        if !self.0.file.try_lock(hold).map_err(error)? {
            return Ok(false);
        }
        self.check_in_place().inspect_err(|_| self.release())?;
        Ok(true)
    }

    /// Return an error if the lock file's path now names another file or no file.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        let is_in_place = self.0.file.is_in_place();
        if is_in_place.map_err(|e| Error::io(&self.0.path, "look up", &e))? {
            return Ok(());
        }
        let reason = "this lock file was deleted or replaced while the store was open";
        Err(Error::detached(&self.0.path, reason))
    }

    /// Return the inode number of the file.
    pub(crate) fn number(&self) -> Result<u64> {
        let number = self.0.file.number();
        number.map_err(|e| Error::io(&self.0.path, "inspect", &e))
    }

    /// Return the number of hard links of the file.
    pub(crate) fn links(&self) -> Result<u64> {
        let links = self.0.file.links();
        links.map_err(|e| Error::io(&self.0.path, "inspect", &e))
    }

    /// Release the lock. An error is ignored: it means that the file is not open, and then there is
    /// no lock to release.
    pub(crate) fn release(&self) {
        let _released = self.0.file.unlock();
    }

    /// Acquire the lock exclusively. Return `None` if it is not free.
    pub(crate) fn try_acquire(&self) -> Result<Option<LockGuard>> {
        if self.0.is_locked.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        let acquired = self.try_lock(Hold::Exclusive);
        if matches!(acquired, Ok(true)) {
            return Ok(Some(LockGuard { lock: self.clone() }));
        }
        self.0.is_locked.store(false, Ordering::SeqCst);
        acquired.map(|_| None)
    }

    /// Return the time since boot in microseconds.
    pub(super) fn uptime_micros(&self) -> u64 {
        self.0.vfs.uptime_micros()
    }

    /// Acquire the lock exclusively. Return `None` if it is not free before the deadline.
    pub(crate) fn acquire_by(&self, deadline: Instant) -> Result<Option<LockGuard>> {
        let mut pause = Duration::from_micros(100);
        loop {
            if let Some(guard) = self.try_acquire()? {
                return Ok(Some(guard));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            self.0.vfs.pause(pause);
            pause = (pause * 2).min(RECHECK);
        }
    }
}

/// An exclusively held lock. Dropping the guard releases it.
#[derive(Debug)]
pub(crate) struct LockGuard {
    lock: Lock,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // Release the kernel's lock before the flag is reset. In the other order, a second thread
        // of this process could acquire the lock in between, and this release would end that
        // thread's lock.
        self.lock.release();
        self.lock.0.is_locked.store(false, Ordering::SeqCst);
    }
}

/// The maintenance lock. It always excludes the other threads of this session, and it excludes
/// other sessions if the store is shared.
#[derive(Debug)]
pub(crate) struct MaintenanceLock {
    threads: Mutex<()>,
}

/// The held maintenance lock. Fields are dropped in order of declaration: the lock between sessions
/// is released first, so that the next thread of this session finds that lock free.
#[derive(Debug)]
pub(crate) struct MaintenanceLockGuard<'a> {
    _sessions: Option<LockGuard>,
    _threads: MutexGuard<'a, ()>,
}

impl MaintenanceLock {
    pub(crate) fn new() -> Self {
        Self {
            threads: Mutex::new(()),
        }
    }

    /// Acquire the lock between threads, then call `lock`, which acquires the lock between sessions
    /// if the store is shared.
    pub(crate) fn acquire(
        &self,
        lock: impl FnOnce() -> Result<Option<LockGuard>>,
    ) -> Result<MaintenanceLockGuard<'_>> {
        let threads = self.threads.lock();
        Ok(MaintenanceLockGuard {
            _sessions: lock()?,
            _threads: threads,
        })
    }
}
