//! `LogWaiter`: waits for the log to grow.

use eventbraid_engine::WaitGuard;
use eventbraid_engine::lock::{Condvar, Mutex};
use pyo3::prelude::*;
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::completion::{CompletionPort, Promise};
use crate::engine::Engine;
use crate::error::exception;
use crate::interrupt;
use crate::store::Store;

/// Waits for the log to grow; one waiter serves one subscription.
///
/// Args:
///     store: The store to wait on.
#[pyclass(frozen, module = "eventbraid._native")]
pub(crate) struct LogWaiter {
    engine: Arc<Engine>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Set under the lock of `state`, so that nobody begins to wait in between.
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How often the engine has woken this waiter: a blocked thread waits for it to change.
    wakes: u64,
    /// The event loops that wait, by token.
    parked: HashMap<u64, Parked>,
    /// Guards of waits that are over. The engine's thread leaves them here, because
    /// dropping one calls back into the engine.
    spent: Vec<WaitGuard>,
}

struct Parked {
    promise: Promise,
    guard: Option<WaitGuard>,
}

#[pymethods]
impl LogWaiter {
    #[new]
    fn new(store: &Store) -> Self {
        Self {
            engine: store.engine(),
            shared: Arc::default(),
        }
    }

    /// Wait until the durable head is beyond a position; any thread may `close`.
    ///
    /// Returns:
    ///     False if the waiter was closed; true otherwise, also when the store closed.
    ///
    /// Raises:
    ///     EventbraidError: If the store has stopped, and has shown all that it will.
    ///     KeyboardInterrupt: As any other exception of a signal handler, at once.
    fn wait(&self, py: Python<'_>, position: u64) -> PyResult<bool> {
        let store = self.engine.store()?;
        grows_beyond(py, &store, position)?;
        let before = self.shared.state.lock().wakes;
        let shared = Arc::clone(&self.shared);
        // Who registers learns first of what other processes have written.
        let guard = py.detach(|| store.on_beyond(position, Box::new(move || shared.wake())));
        let open = interrupt::wait(py, |slice| self.shared.changed_since(before, slice));
        drop(guard);
        open
    }

    /// Like `wait`; the answer arrives at the port.
    fn wait_async(&self, py: Python<'_>, port: &CompletionPort, position: u64) -> PyResult<u64> {
        let store = self.engine.store()?;
        grows_beyond(py, &store, position)?;
        let promise = port.promise();
        let token = promise.token();
        if !self.shared.park(promise) {
            return Ok(token);
        }
        let shared = Arc::clone(&self.shared);
        let guard = store.on_beyond(position, Box::new(move || shared.unpark(token)));
        self.shared.keep(token, guard);
        Ok(token)
    }

    /// Forget a wait whose task gave up.
    fn abandon(&self, token: u64) {
        if self.engine.is_ours() {
            let parked = self.shared.state.lock().parked.remove(&token);
            drop(parked);
        }
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// End every wait, now and later. Never blocks.
    fn close(&self) {
        if !self.engine.is_ours() {
            // A forked child has nobody to wake, and the lock may be held for ever.
            self.shared.closed.store(true, Ordering::Release);
            return;
        }
        for parked in self.shared.close().into_values() {
            answer(parked.promise, false);
        }
    }
}

/// A wait for what never comes would return at once, again and again.
fn grows_beyond(py: Python<'_>, store: &eventbraid_engine::Store, position: u64) -> PyResult<()> {
    let grows = store.grows_beyond(position);
    grows.map_err(|error| exception(py, error))
}

impl Drop for LogWaiter {
    fn drop(&mut self) {
        self.close();
        if self.engine.is_ours() {
            let spent = mem::take(&mut self.shared.state.lock().spent);
            drop(spent);
        } else {
            // The guards call back into the engine, which is out of reach.
            mem::forget(Arc::clone(&self.shared));
        }
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Lets nobody wait any more; answers those who did.
    fn close(&self) -> HashMap<u64, Parked> {
        let mut state = self.state.lock();
        self.closed.store(true, Ordering::Release);
        self.changed.notify_all();
        mem::take(&mut state.parked)
    }

    /// Called by the engine, for a blocked thread.
    fn wake(&self) {
        self.state.lock().wakes += 1;
        self.changed.notify_all();
    }

    /// Called by the engine, for an event loop.
    fn unpark(&self, token: u64) {
        let mut state = self.state.lock();
        if let Some(parked) = state.parked.remove(&token) {
            state.spent.extend(parked.guard);
            drop(state);
            answer(parked.promise, true);
        }
    }

    /// Waits at most one slice; answers whether the waiter is still open once it knows.
    fn changed_since(&self, wakes: u64, slice: std::time::Duration) -> Option<bool> {
        let mut state = self.state.lock();
        if !self.is_closed() && state.wakes == wakes {
            self.changed.wait_for(&mut state, slice);
        }
        let woken = self.is_closed() || state.wakes != wakes;
        woken.then_some(!self.is_closed())
    }

    /// Notes that an event loop waits; false, and answered, if the waiter is closed.
    fn park(&self, promise: Promise) -> bool {
        let mut state = self.state.lock();
        let spent = mem::take(&mut state.spent);
        let open = !self.is_closed();
        if open {
            let (token, guard) = (promise.token(), None);
            state.parked.insert(token, Parked { promise, guard });
            drop(state);
        } else {
            drop(state);
            answer(promise, false);
        }
        drop(spent);
        open
    }

    /// Keeps a wait's guard until the wait is over, which it may be already.
    fn keep(&self, token: u64, guard: WaitGuard) {
        let mut state = self.state.lock();
        let over = match state.parked.get_mut(&token) {
            Some(parked) => parked.guard.replace(guard),
            None => Some(guard),
        };
        drop(state);
        drop(over);
    }
}

fn answer(promise: Promise, open: bool) {
    promise.keep(move |py| Ok(open.into_pyobject(py)?.to_owned().into_any()));
}
