//! Times: `datetime` in Python, microseconds since 1970 in the engine, ISO 8601 in metadata.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDateTime, PyDelta, PyString, PyTzInfo};

use crate::error::exceptions::InvalidArgument;
use crate::once::{Name, get_or_fill};
use crate::text::{argument_text, wrong_type};

const SECONDS_A_DAY: i64 = 86_400;
const MICROS_A_SECOND: i64 = 1_000_000;

static FLOORDIV: Name = Name::new("__floordiv__");
static FROMISOFORMAT: Name = Name::new("fromisoformat");
static ISOFORMAT: Name = Name::new("isoformat");

/// Return the microseconds from 1970 to a time, which may be of a subclass of `datetime` and in any
/// time zone.
pub(crate) fn micros_since_epoch(
    what: &'static str,
    time: &Bound<'_, PyDateTime>,
) -> PyResult<i64> {
    let py = time.py();
    let microsecond = PyDelta::new(py, 0, 0, 1, false)?;
    let since = time.sub(epoch(py)?).map_err(|error| {
        // Python subtracts a time with a zone from one without by raising this.
        if error.is_instance_of::<PyTypeError>(py) {
            return refused(
                what,
                time,
                "it has no time zone; use datetime.now(UTC), for example",
            );
        }
        error
    })?;
    since
        .call_method1(FLOORDIV.get(py)?, (microsecond,))?
        .extract()
}

/// Return the time in UTC that is a number of microseconds after 1970, or before it if negative.
pub(crate) fn from_micros(py: Python<'_>, micros: i64) -> PyResult<Bound<'_, PyAny>> {
    let seconds = micros.div_euclid(MICROS_A_SECOND);
    let (days, seconds) = (
        seconds.div_euclid(SECONDS_A_DAY),
        seconds.rem_euclid(SECONDS_A_DAY),
    );
    let part = |number: i64| i32::try_from(number).map_err(PyOverflowError::new_err);
    let (days, seconds, micros) = (
        part(days)?,
        part(seconds)?,
        part(micros.rem_euclid(MICROS_A_SECOND))?,
    );
    epoch(py)?.add(PyDelta::new(py, days, seconds, micros, false)?)
}

/// Return a time as ISO 8601 text in UTC, with microseconds.
pub(crate) fn iso_text<'py>(
    what: &'static str,
    time: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyString>> {
    let py = time.py();
    let time = time
        .cast::<PyDateTime>()
        .map_err(|_| wrong_type(what, "a datetime", time))?;
    let in_utc = from_micros(py, micros_since_epoch(what, time)?).map_err(|error| {
        // The year 1 or 9999 in another zone may be the year 0 or 10000 in UTC.
        if error.is_instance_of::<PyOverflowError>(py) {
            return refused(what, time, "in UTC it is not within the years 1 to 9999");
        }
        error
    })?;
    let text = in_utc.call_method1(ISOFORMAT.get(py)?, ("T", "microseconds"))?;
    Ok(text.cast_into()?)
}

/// Return the time that an ISO 8601 text names; the error is the reason why it names none.
pub(crate) fn from_iso_text<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let kind = py.get_type::<PyDateTime>();
    let time = kind.call_method1(FROMISOFORMAT.get(py)?, (text,))?;
    if time.getattr("tzinfo")?.is_none() {
        return Err(PyValueError::new_err(format!("{text:?} has no time zone")));
    }
    Ok(time)
}

fn refused(what: &'static str, time: &Bound<'_, PyAny>, reason: &str) -> PyErr {
    InvalidArgument::new_err((what, argument_text(time), reason.to_owned()))
}

fn epoch(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static EPOCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let epoch = get_or_fill(&EPOCH, py, || {
        let utc = PyTzInfo::utc(py)?;
        let epoch = PyDateTime::new(py, 1970, 1, 1, 0, 0, 0, 0, Some(&utc))?;
        Ok(epoch.into_any().unbind())
    })?;
    Ok(epoch.bind(py))
}
