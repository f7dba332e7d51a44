//! `LogWaiter`: waits until the log grows, or until an event matches a filter.
//!
//! Blocked threads and event loops use the same waiter. Lock order: the waiter's `state` is locked
//! before the engine's watch. The engine calls the wake-up functions without its lock. Dropping a
//! [`WaitGuard`] acquires the engine's lock. So the engine's own thread never drops a guard, and
//! leaves it in `finished` instead.

use eventbraid_engine::WaitGuard;
use eventbraid_engine::mutex::{Condvar, Mutex};
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
    /// Set under the lock of `state`: otherwise a wait could begin after `close` has ended all
    /// waits and before the flag is set, and that wait would never end. It may be read without the
    /// lock, with `Acquire`, which sees everything that `close` did before.
    closed: AtomicBool,
    state: Mutex<State>,
    /// Signals a wake-up or the end to the blocked threads.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Number of times that the engine has woken this waiter. A blocked thread waits until the
    /// number changes.
    wakes: u64,
    /// The position up to which finished waits have read without an event that matches.
    passed: u64,
    /// The waiting threads' guards: more than one if a signal handler waits during a wait.
    blocked: Vec<Arc<WaitGuard>>,
    /// The waits of event loops, by token.
    loop_waits: HashMap<u64, LoopWait>,
    /// Guards of finished waits. The engine's thread leaves them here, because dropping a guard
    /// calls back into the engine.
    finished: Vec<WaitGuard>,
}

/// The wait of an event loop.
struct LoopWait {
    promise: Promise,
    /// `None` while the wait is being registered with the engine.
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
    /// With a filter, wait until an event beyond the position matches. It may return earlier, if
    /// reading the new events would take long.
    ///
    /// Returns:
    ///     False if the waiter was closed; true otherwise, even if the store was closed.
    ///
    /// Raises:
    ///     EventbraidError: If the store has stopped, so that no further event becomes visible.
    ///     KeyboardInterrupt: At once, as every exception of a signal handler.
    #[pyo3(signature = (position, wanted=None))]
    fn wait(&self, py: Python<'_>, position: u64, wanted: Option<LogFilter>) -> PyResult<bool> {
        let store = self.engine.store()?;
        grows_beyond(py, &store, position)?;
        let before = self.shared.state.lock().wakes;
        let shared = Arc::clone(&self.shared);
        let filter = LogFilter::shared(wanted);
        let wake = Box::new(move |passed| shared.wake(passed));
        // Registering a wait first catches up with the commits of other processes.
        let guard = Arc::new(py.detach(|| store.on_match(position, &filter, wake)));
        self.shared.block(&guard);
        let open = interrupt::wait(py, |slice| self.shared.changed_since(before, slice));
        self.shared.unblock(&guard);
        open
    }

    /// Like `wait`; the result arrives at the port.
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
        if !self.shared.begin_loop_wait(promise) {
            return Ok(token);
        }
        let shared = Arc::clone(&self.shared);
        let filter = LogFilter::shared(wanted);
        let wake = Box::new(move |passed| shared.end_loop_wait(token, passed));
        let guard = store.on_match(position, &filter, wake);
        self.shared.keep_guard(token, guard);
        Ok(token)
    }

    /// Remove a wait whose task was cancelled.
    fn abandon(&self, token: u64) {
        if self.engine.is_ours() {
            let wait = {
                let mut state = self.shared.state.lock();
                state.passed = state.passed_by_waits();
                state.loop_waits.remove(&token)
            };
            // The wait is dropped without the lock, because its guard calls the engine.
            drop(wait);
        }
    }

    /// The position up to which the waits have read without an event that matches.
    #[getter]
    fn passed(&self) -> u64 {
        if self.engine.is_ours() {
            self.shared.state.lock().passed_by_waits()
        } else {
            // In a forked child the lock may be held forever.
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
            // A forked child has no waits, and the lock may be held forever.
            self.shared.closed.store(true, Ordering::Release);
            return;
        }
        for wait in self.shared.close().into_values() {
            answer(wait.promise, false);
        }
    }
}

/// Return an error if the log will never grow beyond a position. Without the error, the wait would
/// return at once, and the caller would repeat it without end.
fn grows_beyond(py: Python<'_>, store: &eventbraid_engine::Store, position: u64) -> PyResult<()> {
    let grows = store.grows_beyond(position);
    grows.map_err(|error| exception(py, error))
}

impl State {
    /// The position up to which all waits, present and past, have read without an event that
    /// matches. The call acquires the engine's lock, which comes after the lock of this state.
    fn passed_by_waits(&self) -> u64 {
        let loops = self.loop_waits.values().filter_map(|w| w.guard.as_ref());
        let blocked = self.blocked.iter().map(Arc::as_ref);
        let passed = loops.chain(blocked).filter_map(WaitGuard::passed);
        passed.fold(self.passed, u64::max)
    }
}

impl Drop for LogWaiter {
    fn drop(&mut self) {
        self.close();
        if self.engine.is_ours() {
            let finished = mem::take(&mut self.shared.state.lock().finished);
            drop(finished);
        } else {
            // Leaked: the guards call the engine, which a forked child must not use.
            mem::forget(Arc::clone(&self.shared));
        }
    }
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// End all waits of threads and refuse new ones. Return the waits of event loops.
    fn close(&self) -> HashMap<u64, LoopWait> {
        let mut state = self.state.lock();
        state.passed = state.passed_by_waits();
        self.closed.store(true, Ordering::Release);
        self.changed.notify_all();
        mem::take(&mut state.loop_waits)
    }

    /// Called by the engine to wake a blocked thread.
    fn wake(&self, passed: u64) {
        let mut state = self.state.lock();
        state.wakes += 1;
        state.passed = state.passed.max(passed);
        drop(state);
        self.changed.notify_all();
    }

    /// Record that a thread waits.
    fn block(&self, guard: &Arc<WaitGuard>) {
        self.state.lock().blocked.push(Arc::clone(guard));
    }

    /// Record that a thread waits no longer. The caller drops the guard, without the lock.
    fn unblock(&self, guard: &Arc<WaitGuard>) {
        let mut state = self.state.lock();
        state.passed = state.passed_by_waits();
        state.blocked.retain(|other| !Arc::ptr_eq(other, guard));
    }

    /// Called by the engine to end the wait of an event loop.
    fn end_loop_wait(&self, token: u64, passed: u64) {
        let mut state = self.state.lock();
        state.passed = state.passed.max(passed);
        if let Some(wait) = state.loop_waits.remove(&token) {
            state.finished.extend(wait.guard);
            drop(state);
            answer(wait.promise, true);
        }
    }

    /// Wait at most one slice. Return `None` if there was no wake-up, otherwise whether the waiter
    /// is open.
    fn changed_since(&self, wakes: u64, slice: std::time::Duration) -> Option<bool> {
        let mut state = self.state.lock();
        if !self.is_closed() && state.wakes == wakes {
            self.changed.wait_for(&mut state, slice);
        }
        let woken = self.is_closed() || state.wakes != wakes;
        woken.then_some(!self.is_closed())
    }

    /// Record that an event loop waits. If the waiter is closed, deliver the result and return
    /// false.
    fn begin_loop_wait(&self, promise: Promise) -> bool {
        let mut state = self.state.lock();
        let finished = mem::take(&mut state.finished);
        let open = !self.is_closed();
        if open {
            let (token, guard) = (promise.token(), None);
            let wait = LoopWait { promise, guard };
            state.loop_waits.insert(token, wait);
            drop(state);
        } else {
            drop(state);
            answer(promise, false);
        }
        drop(finished);
        open
    }

    /// Keep the guard of a wait until the wait ends; drop it if it has ended already.
    fn keep_guard(&self, token: u64, guard: WaitGuard) {
        let mut state = self.state.lock();
        let unneeded = match state.loop_waits.get_mut(&token) {
            Some(wait) => wait.guard.replace(guard),
            None => Some(guard),
        };
        drop(state);
        drop(unneeded);
    }
}

fn answer(promise: Promise, open: bool) {
    promise.deliver(move |py| Ok(open.into_pyobject(py)?.to_owned().into_any()));
}
