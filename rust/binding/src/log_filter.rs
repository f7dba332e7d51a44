//! `LogFilter`: which events of the log are wanted.

use eventbraid_engine::{Filter, check_stream};
use pyo3::prelude::*;
use std::sync::Arc;

use crate::error::exception;

/// Which events of the log are wanted; all conditions that are given must hold.
#[pyclass(frozen, from_py_object, module = "eventbraid._native")]
#[derive(Clone)]
pub(crate) struct LogFilter(Arc<Conditions>);

struct Conditions {
    stream: Option<String>,
    prefix: Option<String>,
    category: Option<String>,
    types: Option<Vec<String>>,
    system: bool,
}

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
        Ok(Self(Arc::new(Conditions {
            stream,
            prefix,
            category,
            types,
            system,
        })))
    }
}

impl LogFilter {
    /// Lends the filter in the engine's terms.
    pub(crate) fn lent<T>(&self, act: impl FnOnce(Filter<'_>) -> T) -> T {
        let wanted = &*self.0;
        let types: Option<Vec<&str>> = wanted
            .types
            .as_ref()
            .map(|types| types.iter().map(String::as_str).collect());
        act(Filter {
            stream: wanted.stream.as_deref(),
            prefix: wanted.prefix.as_deref(),
            category: wanted.category.as_deref(),
            types: types.as_deref(),
            hides_system: !wanted.system,
        })
    }
}
