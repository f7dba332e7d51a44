//! `RecordedEvent`: an event in the log.

use eventbraid_engine::Recorded;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDateTime, PyDict, PyList, PyMappingProxy, PyString};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::exceptions::{EventDecodeError, InvalidArgument};
use crate::metadata;
use crate::text::{argument_text, bytes, string, utf8};
use crate::time::{from_micros, micros_since_epoch};
use crate::uuid::{bytes_from_uuid, uuid_from_bytes};

/// An event in the log. Immutable; each field is converted when it is read.
///
/// Stores return these. The constructor is for tests and for code that moves events between
/// processes.
///
/// Args:
///     stream: The id of its stream.
///     version: Its place in its stream, counted from 1.
///     position: Its place in the log, counted from 1.
///     type: The event type.
///     event_id: Its id.
///     recorded_at: When it was appended, with a time zone; kept in whole microseconds.
///     data: The body.
///     metadata: Facts about the event besides its body.
///     original_time: When the event happened, if that isn't when it was recorded.
///
/// Raises:
///     InvalidArgument: If a number or a time is out of range.
///     TypeError: If an argument is of another type.
///
/// Example:
///     >>> import eventbraid as eb
///     >>> with eb.open("memory:") as store:
///     ...     done = store.append([("account-alice", "account.opened", b"{}")])
///     ...     [recorded] = store.read_all()
///     >>> recorded.stream, recorded.version, recorded.position
///     ('account-alice', 1, 1)
#[pyclass(frozen, module = "eventbraid")]
pub(crate) struct RecordedEvent(Source);

enum Source {
    /// An event from the log.
    Log(Recorded),
    /// The fields that a caller passed to the constructor.
    Constructed(Box<Constructed>),
}

#[derive(PartialEq)]
struct Constructed {
    stream: Box<str>,
    version: u64,
    position: u64,
    event_type: Box<str>,
    event_id: [u8; 16],
    recorded_at_micros: u64,
    metadata: Box<[u8]>,
    data: Box<[u8]>,
}

#[pymethods]
impl RecordedEvent {
    #[new]
    #[pyo3(signature = (*, stream, version, position, r#type, event_id, recorded_at, data, metadata=None, original_time=None))]
    #[expect(clippy::too_many_arguments, reason = "an event has so many facts")]
    fn new(
        stream: &Bound<'_, PyAny>,
        version: &Bound<'_, PyAny>,
        position: &Bound<'_, PyAny>,
        r#type: &Bound<'_, PyAny>,
        event_id: &Bound<'_, PyAny>,
        recorded_at: &Bound<'_, PyDateTime>,
        data: &Bound<'_, PyAny>,
        metadata: Option<&Bound<'_, PyAny>>,
        original_time: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let metadata = metadata
            .map(metadata::encode)
            .transpose()?
            .unwrap_or_default();
        let library = metadata::encode_library(original_time)?;
        Ok(Self(Source::Constructed(Box::new(Constructed {
            stream: utf8("stream", string("stream", stream)?)?.into(),
            version: number("version", version)?,
            position: number("position", position)?,
            event_type: utf8("event type", string("event type", r#type)?)?.into(),
            event_id: bytes_from_uuid(event_id)?,
            recorded_at_micros: recorded_micros(recorded_at)?,
            metadata: [metadata, library].concat().into(),
            data: bytes("data", data)?.as_bytes().into(),
        }))))
    }

    /// The id of its stream.
    #[getter]
    fn stream<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, self.stream_str())
    }

    /// Its place in its stream, counted from 1.
    #[getter]
    fn version(&self) -> u64 {
        match &self.0 {
            Source::Log(recorded) => recorded.version(),
            Source::Constructed(event) => event.version,
        }
    }

    /// Its place in the log, counted from 1.
    #[getter]
    pub(crate) fn position(&self) -> u64 {
        match &self.0 {
            Source::Log(recorded) => recorded.position(),
            Source::Constructed(event) => event.position,
        }
    }

    /// The event type.
    #[getter]
    #[pyo3(name = "type")]
    fn event_type<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, self.type_str())
    }

    /// Its id: a UUIDv7 unless the writer gave another.
    #[getter]
    fn event_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        uuid_from_bytes(py, self.id_bytes())
    }

    /// When it was appended, in UTC.
    #[getter]
    fn recorded_at<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let micros = i64::try_from(self.recorded_at_micros()).map_err(PyOverflowError::new_err)?;
        from_micros(py, micros)
    }

    /// When the event happened, in UTC, if its writer passed it; else None.
    #[getter]
    fn original_time<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (_, library) = metadata::split(self.metadata_bytes());
        metadata::original_time(py, library).map_err(|reason| self.undecodable(reason))
    }

    /// Facts about the event besides its body; read only.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMappingProxy>> {
        metadata::view(py, &self.metadata_map()?)
    }

    /// The metadata's `correlation_id`: the request that the event belongs to.
    #[getter]
    fn correlation_id(&self) -> PyResult<Option<String>> {
        self.metadata_value("correlation_id")
    }

    /// The metadata's `causation_id`: the event or command that caused the event.
    #[getter]
    fn causation_id(&self) -> PyResult<Option<String>> {
        self.metadata_value("causation_id")
    }

    /// Return one value of the metadata without building a mapping; None if the key is missing.
    #[pyo3(signature = (key, /))]
    fn metadata_value(&self, key: &str) -> PyResult<Option<String>> {
        // The decoder looks for a schema version in every event, and few events have one.
        let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if plain && !metadata::may_contain(self.metadata_bytes(), key) {
            return Ok(None);
        }
        Ok(self.metadata_map()?.remove(key))
    }

    /// The body.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.data_bytes())
    }

    /// Return the number of bytes that the event keeps alive, including those of its record.
    fn __sizeof__(&self) -> usize {
        size_of::<Self>() + self.bytes_held()
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
        (self.position(), self.id_bytes()).hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "<RecordedEvent {} at position {}, {} version {}, data {}>",
            self.event_type(py).repr()?,
            self.position(),
            self.stream(py).repr()?,
            self.version(),
            data_repr(py, self.data_bytes())?,
        ))
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((), Bound<'py, PyDict>)> {
        let keywords = PyDict::new(py);
        keywords.set_item("stream", self.stream(py))?;
        keywords.set_item("version", self.version())?;
        keywords.set_item("position", self.position())?;
        keywords.set_item("type", self.event_type(py))?;
        keywords.set_item("event_id", self.event_id(py)?)?;
        keywords.set_item("recorded_at", self.recorded_at(py)?)?;
        keywords.set_item("data", self.data(py))?;
        keywords.set_item("metadata", self.metadata(py)?.call_method0("copy")?)?;
        keywords.set_item("original_time", self.original_time(py)?)?;
        Ok(((), keywords))
    }
}

impl Constructed {
    fn length(&self) -> usize {
        self.stream.len() + self.event_type.len() + self.metadata.len() + self.data.len()
    }
}

type Facts<'a> = (
    u64,
    [u8; 16],
    &'a str,
    u64,
    &'a str,
    u64,
    &'a [u8],
    &'a [u8],
);

impl RecordedEvent {
    fn bytes_held(&self) -> usize {
        match &self.0 {
            Source::Log(recorded) => recorded.bytes_held(),
            Source::Constructed(event) => size_of::<Constructed>() + event.length(),
        }
    }

    fn facts(&self) -> Facts<'_> {
        (
            self.position(),
            self.id_bytes(),
            self.stream_str(),
            self.version(),
            self.type_str(),
            self.recorded_at_micros(),
            self.metadata_bytes(),
            self.data_bytes(),
        )
    }

    fn stream_str(&self) -> &str {
        match &self.0 {
            Source::Log(recorded) => recorded.stream(),
            Source::Constructed(event) => &event.stream,
        }
    }

    fn type_str(&self) -> &str {
        match &self.0 {
            Source::Log(recorded) => recorded.event_type(),
            Source::Constructed(event) => &event.event_type,
        }
    }

    fn id_bytes(&self) -> [u8; 16] {
        match &self.0 {
            Source::Log(recorded) => recorded.event_id(),
            Source::Constructed(event) => event.event_id,
        }
    }

    fn recorded_at_micros(&self) -> u64 {
        match &self.0 {
            Source::Log(recorded) => recorded.recorded_at_micros(),
            Source::Constructed(event) => event.recorded_at_micros,
        }
    }

    fn data_bytes(&self) -> &[u8] {
        match &self.0 {
            Source::Log(recorded) => recorded.data(),
            Source::Constructed(event) => &event.data,
        }
    }

    fn metadata_bytes(&self) -> &[u8] {
        match &self.0 {
            Source::Log(recorded) => recorded.metadata(),
            Source::Constructed(event) => &event.metadata,
        }
    }

    fn metadata_map(&self) -> PyResult<BTreeMap<String, String>> {
        let (caller, _) = metadata::split(self.metadata_bytes());
        metadata::decode(caller).map_err(|reason| self.undecodable(reason))
    }

    fn undecodable(&self, reason: String) -> PyErr {
        let (kind, stream) = (self.type_str().to_owned(), self.stream_str().to_owned());
        EventDecodeError::new_err((kind, stream, self.position(), reason))
    }
}

/// Convert an event of the engine.
pub(crate) fn from_engine(
    py: Python<'_>,
    recorded: Recorded,
) -> PyResult<Bound<'_, RecordedEvent>> {
    Bound::new(py, RecordedEvent(Source::Log(recorded)))
}

/// Convert events of the engine to a list.
pub(crate) fn list(py: Python<'_>, events: Vec<Recorded>) -> PyResult<Bound<'_, PyList>> {
    PyList::new(
        py,
        events
            .into_iter()
            .map(|recorded| RecordedEvent(Source::Log(recorded))),
    )
}

/// Maximum number of bytes of a body in the `repr` of an event. A longer body is shortened to that
/// many bytes, followed by its length.
const MAX_REPR_BYTES: usize = 80;

fn data_repr(py: Python<'_>, data: &[u8]) -> PyResult<String> {
    let repr = PyBytes::new(py, data.get(..MAX_REPR_BYTES).unwrap_or(data)).repr()?;
    Ok(if data.len() > MAX_REPR_BYTES {
        format!("{repr}... ({} bytes)", data.len())
    } else {
        repr.to_string()
    })
}

fn number(what: &'static str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    value.extract::<u64>().map_err(|error| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            return InvalidArgument::new_err((what, argument_text(value), "it must be 0 or more"));
        }
        error
    })
}

fn recorded_micros(time: &Bound<'_, PyDateTime>) -> PyResult<u64> {
    u64::try_from(micros_since_epoch("recorded_at", time)?).map_err(|_| {
        InvalidArgument::new_err((
            "recorded_at",
            argument_text(time),
            "it must be 1970 or later",
        ))
    })
}
