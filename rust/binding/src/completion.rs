//! `CompletionPort`: delivers the results of the engine's threads to one event loop.
//!
//! The engine's threads never attach to Python. They add results to a queue and make a file
//! descriptor readable; the event loop watches the descriptor, and its callback converts all
//! queued results in one call.

use eventbraid_engine::mutex::Mutex;
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

/// Converts a result to its Python value. Called by the event loop, never on an engine thread.
type Convert = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send>;

/// The queue of results for one event loop.
struct Completions {
    /// Readable while `arrived` may not be empty.
    signal: Signal,
    /// The next token. `Relaxed` is enough: a token only has to be unique.
    tokens: AtomicU64,
    /// The results that the loop has not taken yet. The signal is set under this lock; see
    /// [`Completions::push`].
    arrived: Mutex<VecDeque<(u64, Convert)>>,
}

impl Completions {
    fn new() -> io::Result<Self> {
        Ok(Self {
            signal: Signal::new()?,
            tokens: AtomicU64::new(1),
            arrived: Mutex::new(VecDeque::new()),
        })
    }

    /// Add a result. Set the signal only for the first result in the queue: for the others it is
    /// set already, and a system call is saved.
    fn push(&self, token: u64, convert: Convert) {
        let mut arrived = self.arrived.lock();
        arrived.push_back((token, convert));
        if arrived.len() == 1 {
            self.signal.set();
        }
    }

    /// Remove and return at most `maximum` results. If there are more, the signal stays set.
    fn take(&self, maximum: usize) -> Vec<(u64, Convert)> {
        // The signal is cleared before the queue is read. A result that arrives in between sets it
        // again, and the loop wakes once without a result. In the other order the signal could be
        // cleared after such a result, and the loop would never take it.
        self.signal.clear();
        let mut arrived = self.arrived.lock();
        let count = maximum.min(arrived.len());
        let taken = arrived.drain(..count).collect();
        if !arrived.is_empty() {
            self.signal.set();
        }
        taken
    }
}

/// Delivers the results of the engine's threads to one event loop.
///
/// The engine adds results and makes the descriptor readable; it never runs Python code.
#[pyclass(frozen, module = "eventbraid._native")]
pub(crate) struct CompletionPort(Arc<Completions>);

#[pymethods]
impl CompletionPort {
    #[new]
    fn new() -> PyResult<Self> {
        let completions = Completions::new().map_err(PyOSError::new_err)?;
        Ok(Self(Arc::new(completions)))
    }

    /// Return the descriptor to wait on; readable while there are results.
    fn fileno(&self) -> RawFd {
        self.0.signal.as_raw_fd()
    }

    /// Take at most `most` of the results that have arrived: (token, result or exception).
    fn drain<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyList>> {
        let arrived = self.0.take(most).into_iter().map(|(token, convert)| {
            let result =
                convert(py).unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any());
            (token, result)
        });
        PyList::new(py, arrived.collect::<Vec<_>>())
    }
}

impl CompletionPort {
    /// Create a promise of a result, with a token that no other promise of this port has.
    pub(crate) fn promise(&self) -> Promise {
        let token = self.0.tokens.fetch_add(1, Ordering::Relaxed);
        let completions = Arc::clone(&self.0);
        Promise { completions, token }
    }
}

/// A result that any thread may deliver later. The promise keeps the queue of the port alive until
/// then.
pub(crate) struct Promise {
    completions: Arc<Completions>,
    token: u64,
}

impl Promise {
    /// The token by which the event loop identifies the result.
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// Deliver the result. When the loop takes it, `convert` is called and returns its Python
    /// value.
    pub(crate) fn deliver(
        self,
        convert: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
    ) {
        self.completions.push(self.token, Box::new(convert));
    }
}
