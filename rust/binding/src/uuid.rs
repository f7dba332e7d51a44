//! UUIDs: made in Rust, shown as Python's `uuid.UUID`.

use eventbraid_engine::lock::Mutex;
use pyo3::exceptions::{PyOSError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use std::time::{SystemTime, UNIX_EPOCH};

/// Make a UUIDv7: it sorts by the time at which it was made.
///
/// Example:
///     >>> import eventbraid as eb
///     >>> first, second = eb.uuid7(), eb.uuid7()
///     >>> first.version, first < second
///     (7, True)
#[pyfunction]
pub(crate) fn uuid7(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    uuid_from_number(py, next_number().map_err(PyOSError::new_err)?)
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
    let number: u128 = id.getattr(intern!(id.py(), "int"))?.extract()?;
    Ok(number.swap_bytes().to_le_bytes())
}

fn uuid_from_number(py: Python<'_>, number: u128) -> PyResult<Bound<'_, PyAny>> {
    let arguments = PyDict::new(py);
    arguments.set_item(intern!(py, "int"), number)?;
    uuid_class(py)?.call((), Some(&arguments))
}

fn uuid_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "uuid", "UUID")
}

const RANDOM_BITS: u32 = 62;
const COUNTER_BITS: u32 = 12;

/// The next UUIDv7 of this process: milliseconds, a counter within them (RFC 9562, 6.2,
/// method 1: it may run ahead of the clock), and fresh randomness.
fn next_number() -> Result<u128, String> {
    static LAST: Mutex<u64> = Mutex::new(0);
    let mut random = [0; 8];
    // The kernel's generator survives a fork, which one in this process would not.
    getrandom::fill(&mut random).map_err(|error| error.to_string())?;
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0));
    let tick = {
        let mut last = LAST.lock();
        *last = (millis << COUNTER_BITS).max(*last + 1);
        *last
    };
    let (millis, counter) = (tick >> COUNTER_BITS, tick & ((1 << COUNTER_BITS) - 1));
    let random = u64::from_le_bytes(random) & ((1 << RANDOM_BITS) - 1);
    Ok((u128::from(millis) << 80)
        | (7 << 76)
        | (u128::from(counter) << 64)
        | (0b10 << 62)
        | u128::from(random))
}
