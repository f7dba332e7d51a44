//! `LogFilter`: which events of the log are wanted.

use eventbraid_engine::{Filter, OwnedFilter, check_stream};
use pyo3::prelude::*;
use std::sync::Arc;

use crate::error::exception;

/// Which events of the log are wanted; all conditions that are given must hold.
#[pyclass(frozen, from_py_object, module = "eventbraid._native")]
#[derive(Clone)]
pub(crate) struct LogFilter(Arc<OwnedFilter>);

#[pymethods]
impl LogFilter {
    #[new]
    fn new(
        py: Python<'_>,
        stream: Option<String>,
        prefix: Option<String>,
        category: Option<String>,
        types: Option<Vec<String>>,
        system: bool,
    ) -> PyResult<Self> {
        if let Some(stream) = &stream {
            check_stream(stream).map_err(|error| exception(py, error))?;
        }
        Ok(Self(Arc::new(OwnedFilter {
            stream,
            prefix,
            category,
            types,
            hides_system: !system,
        })))
    }
}

impl LogFilter {
    /// Lends the filter in the engine's terms.
    pub(crate) fn lent<T>(&self, act: impl FnOnce(Filter<'_>) -> T) -> T {
        self.0.lend(act)
    }

    /// The filter of one that waits for events: none wants every event.
    pub(crate) fn shared(wanted: Option<Self>) -> Arc<OwnedFilter> {
        wanted.map_or_else(Arc::default, |wanted| wanted.0)
    }
}
