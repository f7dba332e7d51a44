//! The engine's store, and the process to which it belongs.

use eventbraid_engine as engine;
use eventbraid_engine::vfs::os::forks;
use pyo3::prelude::*;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::{closed, forked};
use crate::reader_pool::ReaderPool;

/// An open store of the engine. A forked child can't use it: the store's threads don't exist there,
/// and one of them may have held a lock at the moment of the fork.
pub(crate) struct Engine {
    /// `None` after the store was closed. The last call that still uses files, index and memory
    /// then releases them. They do not wait for the last Python object that refers to the store. A
    /// call holds the lock in shared mode while it clones the handle; only `close` holds it
    /// exclusively.
    open: RwLock<Option<Open>>,
    /// The result of [`forks`] when the store was opened.
    forks_at_open: u64,
}

/// The parts that a forked child must not use, not even to drop them.
#[derive(Clone)]
struct Open {
    store: engine::Store,
    readers: Arc<ReaderPool>,
    /// Threads for work whose duration grows with the log.
    long_work: Arc<ReaderPool>,
}

impl Engine {
    pub(crate) fn new(store: engine::Store) -> Self {
        let open = Open {
            store,
            readers: Arc::new(ReaderPool::new()),
            long_work: Arc::new(ReaderPool::new()),
        };
        Self {
            open: RwLock::new(Some(open)),
            forks_at_open: forks(),
        }
    }

    /// Return the store. Return an error if it is closed or was opened before a fork.
    pub(crate) fn store(&self) -> PyResult<engine::Store> {
        self.with_open(|open| open.store.clone())
    }

    /// Return the threads for reads, under the same conditions as the store.
    pub(crate) fn readers(&self) -> PyResult<Arc<ReaderPool>> {
        self.with_open(|open| Arc::clone(&open.readers))
    }

    /// Return the threads for checks of the whole log, which must not delay reads.
    pub(crate) fn long_work(&self) -> PyResult<Arc<ReaderPool>> {
        self.with_open(|open| Arc::clone(&open.long_work))
    }

    /// Finish pending appends and close the store, for every object that refers to it. Do nothing
    /// in a forked child, because the store belongs to the parent.
    pub(crate) fn close(&self) -> Result<(), engine::Error> {
        if !self.is_ours() {
            return Ok(());
        }
        let open = self
            .open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        open.map_or(Ok(()), |open| open.store.close())
    }

    /// Whether this is the process that opened the store.
    pub(crate) fn is_ours(&self) -> bool {
        forks() == self.forks_at_open
    }

    fn with_open<T>(&self, get: impl FnOnce(&Open) -> T) -> PyResult<T> {
        if !self.is_ours() {
            return Err(forked());
        }
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(get).ok_or_else(closed)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.is_ours() {
            // The parts are leaked. Dropping them would join threads that don't exist in this
            // process, and acquire locks that may be held forever.
            let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
            mem::forget(open.take());
        }
    }
}
