//! Python objects that are looked up once, safely for processes that fork.
//!
//! The cells of `pyo3` release the interpreter while they are being filled: the thread that fills a
//! cell gives up the GIL, marks the cell as busy, and waits for the GIL. If another thread forks in
//! between, the child has a cell that is busy forever, because the filling thread does not exist
//! there. The first use of the cell in the child would never return. So no cell of this module or
//! of `pyo3` is filled in that way after the import. The cells of this module are filled by
//! [`get_or_fill`], and [`prepare`] fills those of `pyo3` during the import.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDateTime, PyDelta, PyList, PyMapping, PyString, PyTzInfo};

/// Return the value of a cell. If the cell is empty, compute the value and fill the cell.
///
/// Several threads may compute the value at the same time; the first result is kept. The cell is
/// never busy while the GIL is released.
pub(crate) fn get_or_fill<'a, T>(
    cell: &'a PyOnceLock<T>,
    py: Python<'_>,
    make: impl FnOnce() -> PyResult<T>,
) -> PyResult<&'a T> {
    if cell.get(py).is_none() {
        let value = make()?;
        // If another thread was first, `set` keeps the value of that thread.
        drop(cell.set(py, value));
    }
    cell.get(py)
        .ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("the cell was not filled"))
}

/// A Python string that is interned once: `intern!` for processes that fork.
pub(crate) struct Name(&'static str, PyOnceLock<Py<PyString>>);

impl Name {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self(text, PyOnceLock::new())
    }

    pub(crate) fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyString>> {
        let make = || Ok(PyString::intern(py, self.0).unbind());
        Ok(get_or_fill(&self.1, py, make)?.bind(py))
    }
}

/// Fill the cells within `pyo3` that this module uses, before the process can fork.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    // The classes of `datetime`.
    let utc = PyTzInfo::utc(py)?;
    PyDateTime::new(py, 1970, 1, 1, 0, 0, 0, 0, Some(&utc))?.is_instance_of::<PyDateTime>();
    PyDelta::new(py, 0, 0, 0, false)?;
    // The class of mappings, for values that are not a `dict`.
    drop(PyList::empty(py).cast::<PyMapping>());
    // The name of a class, for messages.
    PyList::empty(py).get_type().name()?;
    // The length of an iterator, to reserve room for its items.
    let _ = PyList::empty(py).try_iter()?.size_hint();
    crate::error::prepare(py)
}
