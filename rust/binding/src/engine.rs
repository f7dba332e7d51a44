//! The engine's store, and the process that it belongs to.

use eventbraid_engine as engine;
use pyo3::prelude::*;
use rustix::process::{Pid, getpid};
use std::mem;

use crate::error::forked;

/// An open store of the engine. In a forked child it is out of reach: the engine's threads
/// don't exist there, and its locks may be held by one of them.
pub(crate) struct Engine {
    store: Option<engine::Store>,
    owner: Pid,
}

impl Engine {
    pub(crate) fn new(store: engine::Store) -> Self {
        Self {
            store: Some(store),
            owner: getpid(),
        }
    }

    /// The store, if this is the process that opened it.
    pub(crate) fn store(&self) -> PyResult<&engine::Store> {
        self.store
            .as_ref()
            .filter(|_| self.is_ours())
            .ok_or_else(forked)
    }

    /// Whether this is the process that opened the store.
    pub(crate) fn is_ours(&self) -> bool {
        getpid() == self.owner
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.is_ours() {
            // Closing would wait for threads that this process doesn't have.
            mem::forget(self.store.take());
        }
    }
}
