//! Strings and numbers from Python.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PySlice, PyString, PyType};

use std::time::Duration;

use crate::error::invalid;
use crate::once::Name;

/// Maximum number of characters of a refused text in an error message.
const MAX_SHOWN_CHARACTERS: isize = 64;

/// Return the text of a Python string. Lone surrogates have no UTF-8, so a string with one gives an
/// error that names the argument.
pub(crate) fn utf8<'a>(what: &'static str, text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    text.to_str().map_err(|_| {
        // The error gets the Python string and not a `String`, so that it shows the surrogate as
        // `repr` does.
        let beginning = PySlice::new(text.py(), 0, MAX_SHOWN_CHARACTERS, 1);
        match text.get_item(beginning) {
            Ok(beginning) => invalid(
                what,
                beginning.unbind(),
                "it contains a lone surrogate, which has no UTF-8".to_owned(),
            ),
            Err(error) => error,
        }
    })
}

/// Return the argument as a string, or an error that names it.
pub(crate) fn string<'a, 'py>(
    what: &'static str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyString>> {
    value
        .cast::<PyString>()
        .map_err(|_| wrong_type(what, "a str", value))
}

/// Return the argument as bytes, or an error that names it. Bytes-like objects other than `bytes`
/// are copied, because they may change.
pub(crate) fn bytes<'py>(
    what: &'static str,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, pyo3::types::PyBytes>> {
    if let Ok(bytes) = value.cast::<pyo3::types::PyBytes>() {
        return Ok(bytes.clone());
    }
    let view = PyMemoryView::from(value).map_err(|_| wrong_type(what, "bytes", value))?;
    Ok(view.call_method0("tobytes")?.cast_into()?)
}

static METADATA: Name = Name::new("metadata");

/// Return the metadata that a body carries. An encoded event of a later schema version is a
/// subclass of `bytes` with its version in `metadata`, because a body alone would be read as
/// version 1.
pub(crate) fn carried_metadata<'py>(
    data: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if data.is_exact_instance_of::<pyo3::types::PyBytes>() {
        return Ok(None);
    }
    if !data.is_instance_of::<pyo3::types::PyBytes>() {
        return Ok(None);
    }
    data.getattr_opt(METADATA.get(data.py())?)
}

/// Convert an argument in seconds to a duration.
pub(crate) fn seconds(what: &'static str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|error| {
        let reason = format!("it must be a time in seconds: {error}");
        invalid(what, value.to_string(), reason)
    })
}

/// Return a refused value as text, shortened.
///
/// Python converts no integer of more than 4,300 digits to text, and the `__str__` of a foreign
/// class may raise any exception. The caller is about to raise an error that names the argument. So
/// a failure here must not replace that error, and must not print a traceback, as `Display` does.
pub(crate) fn argument_text(value: &Bound<'_, PyAny>) -> String {
    match value.str() {
        Ok(text) => text
            .to_string_lossy()
            .chars()
            .take(MAX_SHOWN_CHARACTERS.unsigned_abs())
            .collect(),
        Err(error) => {
            let raised = type_name(&error.get_type(value.py()));
            format!(
                "<{} whose str raises {raised}>",
                type_name(&value.get_type())
            )
        }
    }
}

/// The exception for an argument of a wrong type.
pub(crate) fn wrong_type(what: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let found = type_name(&value.get_type());
    PyTypeError::new_err(format!("the {what} must be {wanted}, not {found}"))
}

/// The name of a class, for messages.
pub(crate) fn type_name(kind: &Bound<'_, PyType>) -> String {
    kind.name().map_or_else(
        |_| "something else".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
