//! `CompletionPort`: the way back from the engine's threads into one event loop.

use eventbraid_engine::lock::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::completion::signal::Signal;

mod signal;

/// Makes the Python value of a result. Runs when the loop takes it, never on an engine
/// thread.
type Shown = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send>;

/// Results on their way to one event loop.
struct Completions {
    signal: Signal,
    tokens: AtomicU64,
    arrived: Mutex<VecDeque<(u64, Shown)>>,
}

impl Completions {
    fn new() -> io::Result<Self> {
        Ok(Self {
            signal: Signal::new()?,
            tokens: AtomicU64::new(1),
            arrived: Mutex::new(VecDeque::new()),
        })
    }

    /// Hands a result over; wakes the loop only if it isn't awake for another one already.
    fn push(&self, token: u64, shown: Shown) {
        let mut arrived = self.arrived.lock();
        arrived.push_back((token, shown));
        if arrived.len() == 1 {
            self.signal.set();
        }
    }

    /// Takes so many results at most; more of them wake the loop again.
    fn take(&self, most: usize) -> Vec<(u64, Shown)> {
        // Cleared first: a result that comes in between sets it again, for nothing, where
        // the other order would leave it clear with a result waiting.
        self.signal.clear();
        let mut arrived = self.arrived.lock();
        let now = most.min(arrived.len());
        let taken = arrived.drain(..now).collect();
        if !arrived.is_empty() {
            self.signal.set();
        }
        taken
    }
}

/// The way back from the engine's threads into one event loop.
///
/// The engine pushes results and makes the descriptor readable; it never runs Python.
#[pyclass(frozen, module = "eventbraid._native")]
pub(crate) struct CompletionPort(Arc<Completions>);

#[pymethods]
impl CompletionPort {
    #[new]
    fn new() -> PyResult<Self> {
        let completions = Completions::new().map_err(PyOSError::new_err)?;
        Ok(Self(Arc::new(completions)))
    }

    /// Give the descriptor to wait on; readable while there are results.
    fn fileno(&self) -> RawFd {
        self.0.signal.as_raw_fd()
    }

    /// Take results that have arrived, so many at most: (token, result or exception).
    fn drain<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyList>> {
        let arrived = self.0.take(most).into_iter().map(|(token, shown)| {
            let result =
                shown(py).unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any());
            (token, result)
        });
        PyList::new(py, arrived.collect::<Vec<_>>())
    }
}

impl CompletionPort {
    /// Promises a result, under a token that no other promise of this port has.
    pub(crate) fn promise(&self) -> Promise {
        let token = self.0.tokens.fetch_add(1, Ordering::Relaxed);
        let completions = Arc::clone(&self.0);
        Promise { completions, token }
    }
}

/// A result that is to come, on whatever thread. The port's part stays alive until then.
pub(crate) struct Promise {
    completions: Arc<Completions>,
    token: u64,
}

impl Promise {
    /// What the event loop knows it by.
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// Hands over what makes the result's Python value, once the loop takes it.
    pub(crate) fn keep(
        self,
        shown: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
    ) {
        self.completions.push(self.token, Box::new(shown));
    }
}
