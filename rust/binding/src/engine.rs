//! The engine's store, and the process that it belongs to.

use eventbraid_engine as engine;
use eventbraid_engine::vfs::os::forks;
use pyo3::prelude::*;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{closed, forked};
use crate::reader_pool::ReaderPool;

/// An open store of the engine. In a forked child it is out of reach: the threads don't
/// exist there, and the locks may be held by one of them.
pub(crate) struct Engine {
    open: Option<Open>,
    /// What [`forks`] said when it was opened.
    born: u64,
    closed: AtomicBool,
}

/// What must not be touched in a forked child, not even to drop it.
struct Open {
    store: engine::Store,
    readers: ReaderPool,
}

impl Engine {
    pub(crate) fn new(store: engine::Store) -> Self {
        let readers = ReaderPool::new();
        Self {
            open: Some(Open { store, readers }),
            born: forks(),
            closed: AtomicBool::new(false),
        }
    }

    /// The store, if it is open and this is the process that opened it.
    pub(crate) fn store(&self) -> PyResult<&engine::Store> {
        self.reached().map(|open| &open.store)
    }

    /// The threads for its reads, on the same conditions.
    pub(crate) fn readers(&self) -> PyResult<&ReaderPool> {
        self.reached().map(|open| &open.readers)
    }

    /// Finishes what is under way and closes the store, for all who hold on to it. In a
    /// forked child it only closes the door: the store is the parent's.
    pub(crate) fn close(&self) -> Result<(), engine::Error> {
        self.closed.store(true, Ordering::Release);
        self.ours().map_or(Ok(()), |open| open.store.close())
    }

    /// Whether this is the process that opened the store.
    pub(crate) fn is_ours(&self) -> bool {
        forks() == self.born
    }

    fn reached(&self) -> PyResult<&Open> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        self.ours().ok_or_else(forked)
    }

    fn ours(&self) -> Option<&Open> {
        self.open.as_ref().filter(|_| self.is_ours())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.is_ours() {
            mem::forget(self.open.take());
        }
    }
}
