//! `Appended`: the result of an append.

use eventbraid_engine as engine;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMappingProxy};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::once::get_or_fill;

/// The result of an append. Immutable.
///
/// Args:
///     first_position: The position of the first event; `None` if there were no events.
///     last_position: The position of the last event; `None` if there were no events.
///     versions: The new version of each written stream.
///     replayed: Whether this is the result of an earlier append with the same idempotency key.
///
/// Example:
///     >>> import eventbraid as eb
///     >>> with eb.open("memory:") as store:
///     ...     store.append([("a", "opened", b"{}")])
///     Appended(first_position=1, last_position=1, versions={'a': 1}, replayed=False)
#[pyclass(frozen, module = "eventbraid")]
pub(crate) struct Appended {
    done: engine::Appended,
    versions: PyOnceLock<Py<PyMappingProxy>>,
}

#[pymethods]
impl Appended {
    #[new]
    fn new(
        first_position: Option<u64>,
        last_position: Option<u64>,
        versions: &Bound<'_, PyAny>,
        replayed: bool,
    ) -> PyResult<Self> {
        let versions = versions.call_method0("items")?.try_iter()?;
        let versions = versions
            .map(|item| item?.extract::<(String, u64)>())
            .map(|item| item.map(|(stream, version)| (stream.into_boxed_str(), version)))
            .collect::<PyResult<Vec<_>>>()?;
        Ok(engine::Appended {
            first_position,
            last_position,
            versions,
            replayed,
        }
        .into())
    }

    /// The position of the first event; `None` if there were no events.
    #[getter]
    fn first_position(&self) -> Option<u64> {
        self.done.first_position
    }

    /// The position of the last event; `None` if there were no events.
    #[getter]
    fn last_position(&self) -> Option<u64> {
        self.done.last_position
    }

    /// The new version of each written stream; read only.
    #[getter]
    fn versions<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyMappingProxy>> {
        let view = get_or_fill(&self.versions, py, || {
            let versions = self.versions_dict(py)?;
            Ok(PyMappingProxy::new(py, versions.as_mapping()).unbind())
        })?;
        Ok(view.bind(py))
    }

    /// Whether this is the result of an earlier append with the same idempotency key.
    #[getter]
    fn replayed(&self) -> bool {
        self.done.replayed
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let Ok(other) = other.cast::<Self>() else {
            return Ok(py.NotImplemented());
        };
        let same = self.facts() == other.get().facts();
        Ok(same.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.facts().hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let text = |position: Option<u64>| position.map_or("None".to_owned(), |p| p.to_string());
        Ok(format!(
            "Appended(first_position={}, last_position={}, versions={}, replayed={})",
            text(self.done.first_position),
            text(self.done.last_position),
            self.versions_dict(py)?.repr()?,
            if self.done.replayed { "True" } else { "False" },
        ))
    }

    fn __getnewargs__<'py>(&self, py: Python<'py>) -> PyResult<Arguments<Bound<'py, PyDict>>> {
        let done = &self.done;
        Ok((
            done.first_position,
            done.last_position,
            self.versions_dict(py)?,
            done.replayed,
        ))
    }
}

/// The constructor's arguments.
type Arguments<Versions> = (Option<u64>, Option<u64>, Versions, bool);

impl Appended {
    fn versions_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let versions = PyDict::new(py);
        for (stream, version) in &self.done.versions {
            versions.set_item(&**stream, version)?;
        }
        Ok(versions)
    }

    fn facts(&self) -> Arguments<BTreeMap<&str, u64>> {
        let versions = self
            .done
            .versions
            .iter()
            .map(|(stream, version)| (&**stream, *version));
        let done = &self.done;
        (
            done.first_position,
            done.last_position,
            versions.collect(),
            done.replayed,
        )
    }
}

impl From<engine::Appended> for Appended {
    fn from(done: engine::Appended) -> Self {
        Self {
            done,
            versions: PyOnceLock::new(),
        }
    }
}
