//! The engine's store, and the process that it belongs to.

use eventbraid_engine as engine;
use eventbraid_engine::vfs::os::forks;
use pyo3::prelude::*;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::{closed, forked};
use crate::reader_pool::ReaderPool;

/// An open store of the engine. In a forked child it is out of reach: the threads don't
/// exist there, and the locks may be held by one of them.
pub(crate) struct Engine {
    /// `None` once it is closed: its files, its index and its memory go with the last call that
    /// still uses them, and not with the last object in Python that knows the store.
    open: RwLock<Option<Open>>,
    /// What [`forks`] said when it was opened.
    born: u64,
}

/// What must not be touched in a forked child, not even to drop it.
#[derive(Clone)]
struct Open {
    store: engine::Store,
    readers: Arc<ReaderPool>,
    /// Threads for work that takes as long as the log is large.
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
            born: forks(),
        }
    }

    /// The store, if it is open and this is the process that opened it.
    pub(crate) fn store(&self) -> PyResult<engine::Store> {
        self.reached(|open| open.store.clone())
    }

    /// The threads for its reads, on the same conditions.
    pub(crate) fn readers(&self) -> PyResult<Arc<ReaderPool>> {
        self.reached(|open| Arc::clone(&open.readers))
    }

    /// The threads for checks of the whole log, which must not hold up reads.
    pub(crate) fn long_work(&self) -> PyResult<Arc<ReaderPool>> {
        self.reached(|open| Arc::clone(&open.long_work))
    }

    /// Finishes what is under way and closes the store, for all who hold on to it. In a
    /// forked child nothing happens: the store is the parent's.
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
        forks() == self.born
    }

    fn reached<T>(&self, get: impl FnOnce(&Open) -> T) -> PyResult<T> {
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
            let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
            mem::forget(open.take());
        }
    }
}
