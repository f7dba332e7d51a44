//! UUIDs: made in Rust, shown as Python's `uuid.UUID`.

use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use crate::once::{Name, kept};

static INT: Name = Name::new("int");

/// Make a UUIDv7: it sorts by the time at which it was made.
///
/// Example:
///     >>> import eventbraid as eb
///     >>> first, second = eb.uuid7(), eb.uuid7()
///     >>> first.version, first < second
///     (7, True)
#[pyfunction]
pub(crate) fn uuid7(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let id = eventbraid_engine::uuid7().map_err(|e| PyOSError::new_err(e.to_string()))?;
    uuid_from_bytes(py, id)
}

/// Shows sixteen bytes, most significant first, as a `uuid.UUID`.
pub(crate) fn uuid_from_bytes(py: Python<'_>, bytes: [u8; 16]) -> PyResult<Bound<'_, PyAny>> {
    // Bytes of a UUID stand most significant first whatever the machine.
    uuid_from_number(py, u128::from_le_bytes(bytes).swap_bytes())
}

/// Takes the sixteen bytes, most significant first, out of a `uuid.UUID`.
pub(crate) fn bytes_from_uuid(id: &Bound<'_, PyAny>) -> PyResult<[u8; 16]> {
    if !id.is_instance(uuid_class(id.py())?)? {
        let message = format!(
            "event_id must be a uuid.UUID, not {}",
            id.get_type().name()?
        );
        return Err(PyTypeError::new_err(message));
    }
    let number: u128 = id.getattr(INT.get(id.py())?)?.extract()?;
    Ok(number.swap_bytes().to_le_bytes())
}

fn uuid_from_number(py: Python<'_>, number: u128) -> PyResult<Bound<'_, PyAny>> {
    let arguments = PyDict::new(py);
    arguments.set_item(INT.get(py)?, number)?;
    uuid_class(py)?.call((), Some(&arguments))
}

fn uuid_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let look_up = || {
        let class = py.import("uuid")?.getattr("UUID")?;
        Ok(class.cast_into::<PyType>()?.unbind())
    };
    Ok(kept(&CLASS, py, look_up)?.bind(py))
}
