//! `LogWaiter`: waits for the log to grow, or for an event that matches a filter.

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
use crate::log_filter::LogFilter;
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
    /// The position up to which no event matches, after the positions of the waits. Waits
    /// that are over leave it here.
    passed: u64,
    /// The threads that wait: more than one where a signal handler waits in its turn.
    blocked: Vec<Arc<WaitGuard>>,
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
    /// With a filter, wait until an event beyond the position matches. It may return
    /// earlier, where a look at the new events would take long.
    ///
    /// Returns:
    ///     False if the waiter was closed; true otherwise, also when the store closed.
    ///
    /// Raises:
    ///     EventbraidError: If the store has stopped, and has shown all that it will.
    ///     KeyboardInterrupt: As any other exception of a signal handler, at once.
    #[pyo3(signature = (position, wanted=None))]
    fn wait(&self, py: Python<'_>, position: u64, wanted: Option<LogFilter>) -> PyResult<bool> {
        let store = self.engine.store()?;
        grows_beyond(py, &store, position)?;
        let before = self.shared.state.lock().wakes;
        let shared = Arc::clone(&self.shared);
        let filter = LogFilter::shared(wanted);
        let wake = Box::new(move |passed| shared.wake(passed));
        // Who registers learns first of what other processes have written.
        let guard = Arc::new(py.detach(|| store.on_match(position, &filter, wake)));
        self.shared.block(&guard);
        let open = interrupt::wait(py, |slice| self.shared.changed_since(before, slice));
        self.shared.unblock(&guard);
        open
    }

    /// Like `wait`; the answer arrives at the port.
    #[pyo3(signature = (port, position, wanted=None))]
    fn wait_async(
        &self,
        py: Python<'_>,
        port: &CompletionPort,
        position: u64,
        wanted: Option<LogFilter>,
    ) -> PyResult<u64> {
        let store = self.engine.store()?;
        grows_beyond(py, &store, position)?;
        let promise = port.promise();
        let token = promise.token();
        if !self.shared.park(promise) {
            return Ok(token);
        }
        let shared = Arc::clone(&self.shared);
        let filter = LogFilter::shared(wanted);
        let wake = Box::new(move |passed| shared.unpark(token, passed));
        let guard = store.on_match(position, &filter, wake);
        self.shared.keep(token, guard);
        Ok(token)
    }

    /// Forget a wait whose task gave up.
    fn abandon(&self, token: u64) {
        if self.engine.is_ours() {
            let parked = {
                let mut state = self.shared.state.lock();
                state.passed = state.passed_by_waits();
                state.parked.remove(&token)
            };
            drop(parked);
        }
    }

    /// The position up to which the waits have passed what does not match.
    #[getter]
    fn passed(&self) -> u64 {
        if self.engine.is_ours() {
            self.shared.state.lock().passed_by_waits()
        } else {
            // In a forked child, the lock may be held for ever.
            0
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

impl State {
    /// The position up to which all waits, present and past, have passed what does not match. The
    /// engine's lock comes after this one: it calls no wake-up under its own.
    fn passed_by_waits(&self) -> u64 {
        let parked = self.parked.values().filter_map(|p| p.guard.as_ref());
        let blocked = self.blocked.iter().map(Arc::as_ref);
        let passed = parked.chain(blocked).filter_map(WaitGuard::passed);
        passed.fold(self.passed, u64::max)
    }
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
        state.passed = state.passed_by_waits();
        self.closed.store(true, Ordering::Release);
        self.changed.notify_all();
        mem::take(&mut state.parked)
    }

    /// Called by the engine, for a blocked thread.
    fn wake(&self, passed: u64) {
        let mut state = self.state.lock();
        state.wakes += 1;
        state.passed = state.passed.max(passed);
        drop(state);
        self.changed.notify_all();
    }

    /// Notes that a thread waits.
    fn block(&self, guard: &Arc<WaitGuard>) {
        self.state.lock().blocked.push(Arc::clone(guard));
    }

    /// Notes that a thread waits no more. The caller drops the guard without the lock.
    fn unblock(&self, guard: &Arc<WaitGuard>) {
        let mut state = self.state.lock();
        state.passed = state.passed_by_waits();
        state.blocked.retain(|other| !Arc::ptr_eq(other, guard));
    }

    /// Called by the engine, for an event loop.
    fn unpark(&self, token: u64, passed: u64) {
        let mut state = self.state.lock();
        state.passed = state.passed.max(passed);
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
