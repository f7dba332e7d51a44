//! UUIDs: generated in Rust, and passed to Python as `uuid.UUID`.

use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

use crate::once::{Name, get_or_fill};

static INT: Name = Name::new("int");

/// Generate a UUIDv7. UUIDv7s sort by the time of their generation.
///
/// Example:
///     >>> import eventbraid as eb
///     >>> first, second = eb.store.uuid7(), eb.store.uuid7()
///     >>> first.version, first < second
///     (7, True)
#[pyfunction]
pub(crate) fn uuid7(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let id = eventbraid_engine::uuid7().map_err(|e| PyOSError::new_err(e.to_string()))?;
    uuid_from_bytes(py, id)
}

/// A UUIDv7 for an event whose id is needed as text before the event is appended.
///
/// Creating an `EventId` and its text takes a third of the time that a `uuid.UUID` takes. Most
/// records of a saga have one.
#[pyclass(frozen, module = "eventbraid._native")]
pub(crate) struct EventId([u8; 16]);

#[pymethods]
impl EventId {
    #[new]
    fn new() -> PyResult<Self> {
        eventbraid_engine::uuid7()
            .map(Self)
            .map_err(|e| PyOSError::new_err(e.to_string()))
    }

    fn __str__<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        canonical_text(py, self.0)
    }
}

/// Return the text of a UUID as a Python string: groups of 8, 4, 4, 4 and 12 hexadecimal digits.
///
/// Each commit of a saga needs the text of an id. `format!` would cost 1,500 instructions; this
/// costs 400.
fn canonical_text(py: Python<'_>, id: [u8; 16]) -> Bound<'_, PyString> {
    /// The place of the first digit of each byte.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut text = [b'-'; 36];
    for (byte, place) in id.into_iter().zip(PLACES) {
        if let Some(digits) = text.get_mut(place..place + 2) {
            digits.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 0xf)]);
        }
    }
    PyString::new(py, str::from_utf8(&text).unwrap_or_default())
}

fn hex_digit(value: u8) -> u8 {
    value + if value < 10 { b'0' } else { b'a' - 10 }
}

/// Convert sixteen bytes, most significant first, to a `uuid.UUID`.
pub(crate) fn uuid_from_bytes(py: Python<'_>, bytes: [u8; 16]) -> PyResult<Bound<'_, PyAny>> {
    // The bytes of a UUID are most significant first, on machines of either byte order.
    uuid_from_number(py, u128::from_le_bytes(bytes).swap_bytes())
}

/// Return the sixteen bytes, most significant first, of a `uuid.UUID` or an `EventId`.
pub(crate) fn bytes_from_uuid(id: &Bound<'_, PyAny>) -> PyResult<[u8; 16]> {
    if let Ok(id) = id.cast_exact::<EventId>() {
        return Ok(id.get().0);
    }
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
    Ok(get_or_fill(&CLASS, py, look_up)?.bind(py))
}
