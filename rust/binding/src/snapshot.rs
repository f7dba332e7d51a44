//! `StreamsSnapshot`: several streams as of one position.

use eventbraid_engine as engine;
use eventbraid_engine::mutex::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use std::vec;

use crate::recorded_event;

/// Several streams as of one position.
///
/// Stores return these. The constructor is for tests and for code that moves snapshots between
/// processes.
///
/// Args:
///     position: The position as of which the streams were read.
///     versions: Each stream's version at that position.
///     events: The streams' events up to that position, in global order.
///
/// Example:
///     >>> import eventbraid as eb
///     >>> with eb.open("memory:") as store:
///     ...     done = store.append([("account-alice", "account.opened", b"{}")])
///     ...     snapshot = store.read_streams(["account-alice", "account-bob"])
///     >>> snapshot.position, snapshot.versions, len(snapshot.events)
///     (1, {'account-alice': 1, 'account-bob': 0}, 1)
#[pyclass(frozen, module = "eventbraid.store")]
pub(crate) struct StreamsSnapshot {
    position: u64,
    versions: Py<PyDict>,
    events: Py<PyList>,
    /// Events for which no Python object has been created yet: creating all of them at once would
    /// block an event loop. The lock is held while a part is added, so that concurrent threads add
    /// the parts in order.
    rest: Mutex<vec::IntoIter<engine::Recorded>>,
}

/// The number of events that are created at a time.
const PART: usize = 1024;

#[pymethods]
impl StreamsSnapshot {
    #[new]
    fn new(position: u64, versions: Py<PyDict>, events: Py<PyList>) -> Self {
        Self {
            position,
            versions,
            events,
            rest: Mutex::new(Vec::new().into_iter()),
        }
    }

    /// The position as of which the streams were read: the durable head, or the one given.
    #[getter]
    fn position(&self) -> u64 {
        self.position
    }

    /// Each stream's version at `position`, in the order of the arguments.
    #[getter]
    fn versions<'py>(&self, py: Python<'py>) -> &Bound<'py, PyDict> {
        self.versions.bind(py)
    }

    /// The streams' events up to `position`, in global order.
    #[getter]
    fn events<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyList>> {
        while self.fill(py)? {}
        Ok(self.events.bind(py))
    }

    /// Create some of the events; return whether there are more.
    #[pyo3(name = "_fill")]
    fn fill(&self, py: Python<'_>) -> PyResult<bool> {
        // The lock is safe to hold here: appending to a list runs no other Python code.
        let mut rest = self.rest.lock();
        for recorded in rest.by_ref().take(PART) {
            let event = recorded_event::from_engine(py, recorded)?;
            self.events.bind(py).append(event)?;
        }
        Ok(rest.len() > 0)
    }

    fn __getnewargs__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(u64, &Bound<'py, PyDict>, &Bound<'py, PyList>)> {
        Ok((self.position, self.versions(py), self.events(py)?))
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let Ok(other) = other.cast::<Self>() else {
            return Ok(py.NotImplemented());
        };
        let other = other.get();
        let same = self.position == other.position
            && self.versions(py).eq(other.versions(py))?
            && self.events(py)?.eq(other.events(py)?)?;
        Ok(same.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (position, versions) = (self.position, self.versions(py).repr()?);
        let events = self.events(py)?.len();
        Ok(format!(
            "<StreamsSnapshot at {position}: {events} events, versions {versions}>"
        ))
    }
}

impl StreamsSnapshot {
    /// Convert a snapshot of the engine.
    pub(crate) fn from_engine<'py>(
        py: Python<'py>,
        streams: &[(Box<str>, u64)],
        snapshot: engine::Snapshot,
    ) -> PyResult<Bound<'py, PyAny>> {
        let engine::Snapshot {
            position,
            versions: found,
            events,
        } = snapshot;
        let versions = PyDict::new(py);
        for ((stream, _), version) in streams.iter().zip(found) {
            versions.set_item(&**stream, version)?;
        }
        let mut events = events.into_iter();
        let first: Vec<_> = events.by_ref().take(PART).collect();
        let (versions, rest) = (versions.unbind(), Mutex::new(events));
        let events = recorded_event::list(py, first)?.unbind();
        Ok(Bound::new(
            py,
            Self {
                position,
                versions,
                events,
                rest,
            },
        )?
        .into_any())
    }
}
