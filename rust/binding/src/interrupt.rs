//! Waiting with the interpreter detached, in slices, so that Ctrl-C is answered at once.

use eventbraid_engine::lock::{Condvar, Mutex};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How long a wait may keep a signal handler from running.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// Asks again and again, detached, until there is an answer or a signal handler raises.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    slice: impl Fn(Duration) -> Option<T> + Send + Sync,
) -> PyResult<T> {
    loop {
        if let Some(answer) = py.detach(|| slice(SLICE)) {
            return Ok(answer);
        }
        py.check_signals()?;
    }
}

/// Runs long work on a thread of its own and waits for it. If a signal handler raises, the
/// work runs on and its result is dropped.
pub(crate) fn run<T: Send + 'static>(
    py: Python<'_>,
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let answer = Arc::new((Mutex::new(None), Condvar::new()));
    let there = Arc::clone(&answer);
    spawn(name, move || {
        let result = work();
        *there.0.lock() = Some(result);
        there.1.notify_all();
    })?;
    wait(py, |slice| {
        let mut result = answer.0.lock();
        if result.is_none() {
            answer.1.wait_for(&mut result, slice);
        }
        result.take()
    })
}

/// Starts a thread that never runs Python.
pub(crate) fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> PyResult<()> {
    let thread = thread::Builder::new().name(format!("eventbraid-{name}"));
    thread
        .spawn(work)
        .map_err(|error| PyOSError::new_err(error.to_string()))?;
    Ok(())
}
