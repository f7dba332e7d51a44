//! `LogFilter`: the conditions on the events of the log.

use eventbraid_engine::{Filter, OwnedFilter, check_stream};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::sync::Arc;

use crate::error::{exception, invalid};
use crate::text::{string, utf8};

/// The names of system streams begin with this.
const SYSTEM: char = '$';

/// The conditions on the events of the log; all that are given must hold.
#[pyclass(frozen, from_py_object, module = "eventbraid._native")]
#[derive(Clone)]
pub(crate) struct LogFilter(Arc<OwnedFilter>);

#[pymethods]
impl LogFilter {
    #[new]
    #[pyo3(signature = (*, stream=None, prefix=None, category=None, types=None, system=false))]
    fn new(
        py: Python<'_>,
        stream: Option<&Bound<'_, PyAny>>,
        prefix: Option<&Bound<'_, PyAny>>,
        category: Option<&Bound<'_, PyAny>>,
        types: Option<&Bound<'_, PyAny>>,
        system: bool,
    ) -> PyResult<Self> {
        let stream = stream.map(|text| owned("stream", text)).transpose()?;
        let prefix = prefix.map(|text| owned("prefix", text)).transpose()?;
        let category = category.map(|text| owned("category", text)).transpose()?;
        let types = types.map(event_types).transpose()?;
        if let Some(stream) = &stream {
            check_stream(stream).map_err(|error| exception(py, error))?;
        }
        // If only system streams can meet a condition, the filter includes system streams.
        let names_system = [&stream, &prefix, &category]
            .into_iter()
            .any(|text| text.as_ref().is_some_and(|text| text.starts_with(SYSTEM)));
        Ok(Self(Arc::new(OwnedFilter {
            stream,
            prefix,
            category,
            types,
            hides_system: !system && !names_system,
        })))
    }
}

impl LogFilter {
    /// Call `act` with the engine's filter, borrowed from this one.
    pub(crate) fn with_filter<T>(&self, act: impl FnOnce(Filter<'_>) -> T) -> T {
        self.0.lend(act)
    }

    /// Return the filter of a wait for events. Without a filter, every event ends the wait.
    pub(crate) fn shared(wanted: Option<Self>) -> Arc<OwnedFilter> {
        wanted.map_or_else(Arc::default, |wanted| wanted.0)
    }
}

fn owned(what: &'static str, text: &Bound<'_, PyAny>) -> PyResult<String> {
    Ok(utf8(what, string(what, text)?)?.to_owned())
}

/// Return the event types of an iterable. A single string is refused, because it would be read as
/// an iterable of its characters.
fn event_types(types: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if let Ok(text) = types.cast::<PyString>() {
        let reason = "give a list of event types, even for one".to_owned();
        return Err(invalid("types", text.clone().unbind(), reason));
    }
    types
        .try_iter()?
        .map(|text| owned("event type", &text?))
        .collect()
}
