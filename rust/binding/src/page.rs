//! `Page`: the result of one bounded read of a stream or the log.

use eventbraid_engine as engine;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::recorded_event;

/// The result of one bounded read of a stream or the log.
#[pyclass(frozen, module = "eventbraid._native")]
pub(crate) struct Page {
    events: Py<PyList>,
    next: u64,
    more: bool,
    at: u64,
}

#[pymethods]
impl Page {
    /// The events. With a filter the list may be empty although `more` is true.
    #[getter]
    pub(crate) fn events<'py>(&self, py: Python<'py>) -> &Bound<'py, PyList> {
        self.events.bind(py)
    }

    /// The cursor for the next page: a version in a stream, a position in the log.
    #[getter]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Whether there may be more events up to `at`.
    #[getter]
    pub(crate) fn more(&self) -> bool {
        self.more
    }

    /// The position to which the read is pinned.
    #[getter]
    fn at(&self) -> u64 {
        self.at
    }
}

impl Page {
    /// Convert a batch of the engine.
    pub(crate) fn from_engine(
        py: Python<'_>,
        page: engine::ReadBatch,
    ) -> PyResult<Bound<'_, PyAny>> {
        let engine::ReadBatch {
            events,
            next,
            more,
            at,
        } = page;
        let events = recorded_event::list(py, events)?.unbind();
        Ok(Bound::new(
            py,
            Self {
                events,
                next,
                more,
                at,
            },
        )?
        .into_any())
    }
}
