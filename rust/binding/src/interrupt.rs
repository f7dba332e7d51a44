//! Waits with the interpreter detached, and threads for long work. A wait is divided into short
//! slices, so that Ctrl-C can end it between two slices.

use eventbraid_engine::mutex::{Condvar, Mutex};
use pyo3::prelude::*;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::error::exceptions::StoreUnavailable;

/// Maximum duration of one slice, and so the maximum time that a wait delays a signal handler.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// Call `slice` repeatedly with the interpreter detached, until it returns a result or a signal
/// handler raises.
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

/// Run long work on a new thread and wait for it. If a signal handler raises, the work continues
/// and its result is dropped. If no thread can be started, the calling thread does the work, and a
/// signal handler runs after it.
pub(crate) fn run<T: Send + 'static>(
    py: Python<'_>,
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let answer = Arc::new((Mutex::new(None), Condvar::new()));
    let answer_of_thread = Arc::clone(&answer);
    let started = spawn(name, move || {
        let result = work();
        *answer_of_thread.0.lock() = Some(result);
        answer_of_thread.1.notify_all();
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

/// Work for which no thread could be started.
pub(crate) struct NoThread {
    pub(crate) work: Box<dyn FnOnce() + Send>,
    error: io::Error,
}

impl NoThread {
    /// Do the work in the calling thread, detached.
    pub(crate) fn run_here(self) {
        Python::attach(|py| py.detach(self.work));
    }

    /// The exception for a call whose work the calling thread must not do.
    pub(crate) fn exception(&self, path: &str) -> PyErr {
        let (reason, code) = (self.error.to_string(), self.error.raw_os_error());
        StoreUnavailable::new_err((path.to_owned(), "start a thread for", reason, code))
    }
}

/// Start a thread that never runs Python code.
pub(crate) fn spawn(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), NoThread> {
    let work: Box<dyn FnOnce() + Send> = Box::new(work);
    // The work is shared, because `Builder::spawn` drops its closure if it fails, and the caller
    // then needs the work.
    let shared = Arc::new(Mutex::new(Some(work)));
    let shared_with_thread = Arc::clone(&shared);
    let thread = thread::Builder::new().name(format!("eventbraid-{name}"));
    let started = thread.spawn(move || {
        let work = shared_with_thread.lock().take();
        if let Some(work) = work {
            work();
        }
    });
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            let work = shared.lock().take().unwrap_or_else(|| Box::new(|| ()));
            Err(NoThread { work, error })
        }
    }
}
