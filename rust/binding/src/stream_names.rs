//! `StreamNames`: a listing of streams, gathered in slices and returned in pages.

use eventbraid_engine as engine;
use eventbraid_engine::mutex::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::sync::Arc;

use crate::completion::CompletionPort;
use crate::engine::Engine;
use crate::error::exception;

/// A listing of the streams that had events when it began.
#[pyclass(frozen, module = "eventbraid._native")]
pub(crate) struct StreamNames {
    engine: Arc<Engine>,
    names: Arc<Mutex<engine::StreamNames>>,
}

#[pymethods]
impl StreamNames {
    /// Return the next ids, in ascending order of their bytes; an empty list at the end.
    fn page<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let store = self.engine.store()?;
        loop {
            let complete = py.detach(|| store.gather(&mut self.names.lock()));
            if complete.map_err(|error| exception(py, error))? {
                return next_page(py, &self.names, limit);
            }
            py.check_signals()?;
        }
    }

    /// Like `page`; the result is `None` while there is more to gather.
    fn page_async(&self, port: &CompletionPort, limit: usize) -> PyResult<u64> {
        let store = self.engine.store()?;
        let names = Arc::clone(&self.names);
        let promise = port.promise();
        let token = promise.token();
        self.engine.readers()?.run(move || {
            let complete = store.gather(&mut names.lock());
            promise.deliver(move |py| {
                if complete.map_err(|error| exception(py, error))? {
                    return Ok(next_page(py, &names, limit)?.into_any());
                }
                Ok(py.None().into_bound(py))
            });
        });
        Ok(token)
    }
}

impl StreamNames {
    /// Wrap a listing that the engine has begun.
    pub(crate) fn new(engine: Arc<Engine>, names: engine::StreamNames) -> Self {
        let names = Arc::new(Mutex::new(names));
        Self { engine, names }
    }
}

/// Return the next ids as a list. Acquire the lock with the interpreter detached: the thread that
/// holds it may be reading the disk or waiting for the GIL.
fn next_page<'py>(
    py: Python<'py>,
    names: &Mutex<engine::StreamNames>,
    limit: usize,
) -> PyResult<Bound<'py, PyList>> {
    let page: Vec<Box<str>> = py.detach(|| {
        let mut names = names.lock();
        names.page(limit).into_iter().map(Into::into).collect()
    });
    PyList::new(py, page.iter().map(|name| &**name))
}
