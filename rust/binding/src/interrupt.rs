//! Waiting with the interpreter detached, in slices, so that Ctrl-C is answered at once.

use eventbraid_engine::lock::{Condvar, Mutex};
use pyo3::prelude::*;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::error::exceptions::StoreUnavailable;

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
/// work runs on and its result is dropped. Where no thread can be started the work is done by
/// the calling thread, and a signal handler runs after it.
pub(crate) fn run<T: Send + 'static>(
    py: Python<'_>,
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let answer = Arc::new((Mutex::new(None), Condvar::new()));
    let there = Arc::clone(&answer);
    let started = spawn(name, move || {
        let result = work();
        *there.0.lock() = Some(result);
        there.1.notify_all();
    });
    if let Err(NoThread { work, .. }) = started {
        py.detach(work);
    }
    wait(py, |slice| {
        let mut result = answer.0.lock();
        if result.is_none() {
            answer.1.wait_for(&mut result, slice);
        }
        result.take()
    })
}

/// Work for which the system has no thread left.
pub(crate) struct NoThread {
    pub(crate) work: Box<dyn FnOnce() + Send>,
    error: io::Error,
}

impl NoThread {
    /// Does the work in the calling thread, which Python waits for.
    pub(crate) fn run_here(self) {
        Python::attach(|py| py.detach(self.work));
    }

    /// The exception of a call that has nobody else to do its work.
    pub(crate) fn exception(&self, path: &str) -> PyErr {
        let (reason, code) = (self.error.to_string(), self.error.raw_os_error());
        StoreUnavailable::new_err((path.to_owned(), "start a thread for", reason, code))
    }
}

/// Starts a thread that never runs Python.
pub(crate) fn spawn(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), NoThread> {
    let work: Box<dyn FnOnce() + Send> = Box::new(work);
    // A thread that can't be started takes what it was given along.
    let kept = Arc::new(Mutex::new(Some(work)));
    let given = Arc::clone(&kept);
    let thread = thread::Builder::new().name(format!("eventbraid-{name}"));
    let started = thread.spawn(move || {
        let work = given.lock().take();
        if let Some(work) = work {
            work();
        }
    });
    match (started, kept) {
        (Ok(_), _) => Ok(()),
        (Err(error), kept) => {
            let work = kept.lock().take().unwrap_or_else(|| Box::new(|| ()));
            Err(NoThread { work, error })
        }
    }
}
