//! Metadata: a mapping of strings in Python, a JSON object with sorted keys in the log.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyMappingProxy, PyTuple};
use std::collections::BTreeMap;

use crate::text::{string, utf8, wrong_type};

/// Writes a mapping as JSON; an empty one takes no bytes at all.
pub(crate) fn encode(metadata: &Bound<'_, PyAny>) -> PyResult<Box<[u8]>> {
    let mapping = metadata
        .cast::<PyMapping>()
        .map_err(|_| wrong_type("metadata", "a mapping of str to str", metadata))?;
    let mut sorted = BTreeMap::new();
    for item in mapping.items()? {
        let item = item.cast_into::<PyTuple>()?;
        let key = utf8("metadata", string("metadata's key", &item.get_item(0)?)?)?.to_owned();
        let value = utf8("metadata", string("metadata's value", &item.get_item(1)?)?)?.to_owned();
        sorted.insert(key, value);
    }
    if sorted.is_empty() {
        return Ok(Box::default());
    }
    // A map of strings can always be written.
    let json = serde_json::to_vec(&sorted).unwrap_or_default();
    Ok(json.into_boxed_slice())
}

/// Decodes the output of `encode`.
pub(crate) fn decode(json: &[u8]) -> Result<BTreeMap<String, String>, String> {
    if json.is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_slice(json).map_err(|error| format!("its metadata is invalid: {error}"))
}

/// Converts metadata to a read-only mapping.
pub(crate) fn view<'py>(
    py: Python<'py>,
    metadata: &BTreeMap<String, String>,
) -> PyResult<Bound<'py, PyMappingProxy>> {
    let dict = PyDict::new(py);
    for (key, value) in metadata {
        dict.set_item(key, value)?;
    }
    Ok(PyMappingProxy::new(py, dict.as_mapping()))
}

/// Whether encoded metadata may contain a key, which must be one that JSON writes without escapes.
/// A cheap test before decoding.
pub(crate) fn may_contain(encoded: &[u8], key: &str) -> bool {
    encoded
        .windows(key.len())
        .any(|window| window == key.as_bytes())
}
