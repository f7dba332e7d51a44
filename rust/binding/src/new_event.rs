//! `NewEvent`: an event to be appended.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping, PyMappingProxy, PyString, PyTuple};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::exceptions::EventbraidError;
use crate::metadata::{self, Trace};
use crate::text::{bytes, carried_metadata, string, utf8, wrong_type};
use crate::uuid::{bytes_from_uuid, uuid_from_bytes};

/// An event to be appended. Immutable.
///
/// Args:
///     stream: The id of the stream to append it to: 1 to 255 bytes of UTF-8.
///     type: The event type: 1 to 255 bytes of UTF-8.
///     data: The body, at most 8 MiB; copied unless it is `bytes`.
///     metadata: Facts about the event besides its body, at most 64 KiB.
///     event_id: The event's id; if not given, one is generated when it is appended.
///     original_time: When the event happened, if that isn't when it is recorded; with a time zone.
///     content: What an idempotency key compares in place of the body. Pass the plain body here if
///         `data` is encrypted, because a body that is encrypted again has other bytes. It isn't
///         stored.
///
/// Raises:
///     InvalidArgument: If the original time has no time zone.
///     TypeError: If an argument is of another type.
///
/// Example:
///     >>> import eventbraid as eb
///     >>> eb.NewEvent("account-alice", "account.opened", b"{}", metadata={"by": "me"})
///     NewEvent('account-alice', 'account.opened', b'{}', metadata={'by': 'me'})
#[pyclass(frozen, module = "eventbraid")]
pub(crate) struct NewEvent {
    stream: Py<PyString>,
    event_type: Py<PyString>,
    data: Py<PyBytes>,
    metadata: Box<[u8]>,
    /// The metadata that the library adds, in the form in which it follows the caller's.
    library_metadata: Box<[u8]>,
    event_id: Option<[u8; 16]>,
    /// What an idempotency key compares in place of the body.
    content: Option<Py<PyBytes>>,
    /// Whether the event may be appended to a system stream.
    is_system: bool,
}

#[pymethods]
impl NewEvent {
    #[new]
    #[pyo3(signature = (
        stream, r#type, data, *, metadata=None, event_id=None, original_time=None, content=None
    ))]
    fn new(
        stream: &Bound<'_, PyAny>,
        r#type: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        metadata: Option<&Bound<'_, PyAny>>,
        event_id: Option<&Bound<'_, PyAny>>,
        original_time: Option<&Bound<'_, PyAny>>,
        content: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (stream, event_type) = (string("stream", stream)?, string("event type", r#type)?);
        utf8("stream", stream)?;
        utf8("event type", event_type)?;
        let carried = carried_metadata(data)?;
        let metadata = match (&carried, metadata) {
            (Some(carried), Some(given)) => Some(joined(carried, given)?),
            (Some(carried), None) => Some(carried.clone()),
            (None, given) => given.cloned(),
        };
        Ok(Self {
            stream: plain(stream)?,
            event_type: plain(event_type)?,
            data: exact(bytes("data", data)?).unbind(),
            metadata: metadata
                .as_ref()
                .map(metadata::encode)
                .transpose()?
                .unwrap_or_default(),
            library_metadata: metadata::encode_library(original_time)?,
            event_id: event_id.map(bytes_from_uuid).transpose()?,
            content: content
                .map(|content| Ok::<_, PyErr>(exact(bytes("content", content)?).unbind()))
                .transpose()?,
            is_system: false,
        })
    }

    /// The id of the stream to append it to.
    #[getter]
    pub(crate) fn stream<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.stream.bind(py)
    }

    /// The event type.
    #[getter]
    #[pyo3(name = "type")]
    pub(crate) fn event_type<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.event_type.bind(py)
    }

    /// The body.
    #[getter]
    pub(crate) fn data<'py>(&self, py: Python<'py>) -> &Bound<'py, PyBytes> {
        self.data.bind(py)
    }

    /// Facts about the event besides its body; read only.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMappingProxy>> {
        let metadata = metadata::decode(&self.metadata).map_err(EventbraidError::new_err)?;
        metadata::view(py, &metadata)
    }

    /// The id that was given, if any.
    #[getter]
    fn event_id<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.event_id.map(|id| uuid_from_bytes(py, id)).transpose()
    }

    /// When the event happened, in UTC, if the caller passed it.
    #[getter]
    fn original_time<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        metadata::original_time(py, &self.library_metadata).map_err(EventbraidError::new_err)
    }

    /// What an idempotency key compares: the body, unless the caller passed something else.
    #[getter]
    fn content<'py>(&self, py: Python<'py>) -> &Bound<'py, PyBytes> {
        self.content.as_ref().unwrap_or(&self.data).bind(py)
    }

    /// Whether the library created it, so that it may be appended to a system stream.
    #[getter(is_system)]
    fn get_is_system(&self) -> bool {
        self.is_system
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let Ok(other) = other.cast::<Self>() else {
            return Ok(py.NotImplemented());
        };
        let same = self.facts(py)? == other.get().facts(py)?;
        Ok(same.into_pyobject(py)?.to_owned().into_any().unbind())
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<u64> {
        let mut hasher = DefaultHasher::new();
        self.facts(py)?.hash(&mut hasher);
        Ok(hasher.finish())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let (stream, kind) = (self.stream(py).repr()?, self.event_type(py).repr()?);
        let mut repr = format!("NewEvent({stream}, {kind}, {}", self.data(py).repr()?);
        if !self.metadata.is_empty() {
            let metadata = self.metadata(py)?.call_method0("copy")?;
            repr = format!("{repr}, metadata={}", metadata.repr()?);
        }
        if let Some(id) = self.event_id(py)? {
            repr = format!("{repr}, event_id={}", id.repr()?);
        }
        if let Some(time) = self.original_time(py)? {
            repr = format!("{repr}, original_time={}", time.repr()?);
        }
        Ok(repr + ")")
    }

    #[allow(
        clippy::type_complexity,
        reason = "the protocol's own shape: (arguments, keywords)"
    )]
    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(
        (
            &Bound<'py, PyString>,
            &Bound<'py, PyString>,
            &Bound<'py, PyBytes>,
        ),
        Bound<'py, PyDict>,
    )> {
        let keywords = PyDict::new(py);
        keywords.set_item("metadata", self.metadata(py)?.call_method0("copy")?)?;
        keywords.set_item("event_id", self.event_id(py)?)?;
        keywords.set_item("original_time", self.original_time(py)?)?;
        keywords.set_item("content", self.content.as_ref())?;
        Ok((
            (self.stream(py), self.event_type(py), self.data(py)),
            keywords,
        ))
    }
}

/// Merge the metadata that a body carries with the metadata that the caller passed. For a key in
/// both, the value that the caller passed is used.
fn joined<'py>(
    carried: &Bound<'py, PyAny>,
    given: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let both = PyDict::new(carried.py());
    both.update(carried.cast::<PyMapping>()?)?;
    let given = given
        .cast::<PyMapping>()
        .map_err(|_| wrong_type("metadata", "a mapping of str to str", given))?;
    both.update(given)?;
    Ok(both.into_any())
}

/// Convert bytes to exact `bytes`.
fn exact(data: Bound<'_, PyBytes>) -> Bound<'_, PyBytes> {
    if data.is_exact_instance_of::<PyBytes>() {
        return data;
    }
    PyBytes::new(data.py(), data.as_bytes())
}

type Facts<'a> = (
    &'a str,
    &'a str,
    &'a [u8],
    &'a [u8],
    &'a [u8],
    Option<[u8; 16]>,
    Option<&'a [u8]>,
);

impl NewEvent {
    /// Create the event of a (stream, type, data) tuple whose body carries metadata.
    pub(crate) fn of_tuple<'py>(tuple: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, Self>> {
        let (stream, kind, data) = (tuple.get_item(0)?, tuple.get_item(1)?, tuple.get_item(2)?);
        Bound::new(
            tuple.py(),
            Self::new(&stream, &kind, &data, None, None, None, None)?,
        )
    }

    /// The metadata as it is stored in the log.
    pub(crate) fn encoded_metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// The metadata that the library adds, as it is stored in the log.
    pub(crate) fn encoded_library_metadata(&self) -> &[u8] {
        &self.library_metadata
    }

    /// What an idempotency key compares in place of the body; `None` means the body.
    pub(crate) fn own_content<'a>(&'a self, py: Python<'a>) -> Option<&'a [u8]> {
        self.content.as_ref().map(|content| content.as_bytes(py))
    }

    /// The id that was given, if any, as bytes.
    pub(crate) fn id_bytes(&self) -> Option<[u8; 16]> {
        self.event_id
    }

    /// Whether the event may be appended to a system stream.
    pub(crate) fn is_system(&self) -> bool {
        self.is_system
    }

    fn facts<'a>(&'a self, py: Python<'a>) -> PyResult<Facts<'a>> {
        Ok((
            self.stream.to_str(py)?,
            self.event_type.to_str(py)?,
            self.data.as_bytes(py),
            &self.metadata,
            &self.library_metadata,
            self.event_id,
            self.own_content(py),
        ))
    }
}

/// Mark an event as created by the library, so that it may be appended to a system stream, whose id
/// begins with `$`.
#[pyfunction]
#[pyo3(signature = (event, /))]
pub(crate) fn system_event(py: Python<'_>, event: &NewEvent) -> NewEvent {
    NewEvent {
        stream: event.stream.clone_ref(py),
        event_type: event.event_type.clone_ref(py),
        data: event.data.clone_ref(py),
        metadata: event.metadata.clone(),
        library_metadata: event.library_metadata.clone(),
        event_id: event.event_id,
        content: event.content.as_ref().map(|content| content.clone_ref(py)),
        is_system: true,
    }
}

/// Create an event of the library's own, with the metadata that traces it.
///
/// The metadata is that of `NewEvent(..., metadata={"causation_id": ..., "correlation_id": ...,
/// "v": ...})`. It is written here without a dictionary, because each record of a saga has it.
#[pyfunction]
#[pyo3(signature = (
    stream, r#type, data, correlation_id, causation_id, schema_version, event_id=None, /
))]
pub(crate) fn traced_event(
    stream: &Bound<'_, PyString>,
    r#type: &Bound<'_, PyString>,
    data: &Bound<'_, PyBytes>,
    correlation_id: &Bound<'_, PyString>,
    causation_id: &Bound<'_, PyString>,
    schema_version: u32,
    event_id: Option<&Bound<'_, PyAny>>,
) -> PyResult<NewEvent> {
    utf8("stream", stream)?;
    utf8("event type", r#type)?;
    let metadata = metadata::encode_trace(&Trace {
        causation_id: utf8("metadata", causation_id)?,
        correlation_id: utf8("metadata", correlation_id)?,
        schema_version,
    });
    Ok(NewEvent {
        stream: plain(stream)?,
        event_type: plain(r#type)?,
        data: exact(data.clone()).unbind(),
        metadata,
        library_metadata: Box::default(),
        event_id: event_id.map(bytes_from_uuid).transpose()?,
        content: None,
        is_system: false,
    })
}

/// Convert a text to an exact `str`, so that no `__eq__` or `__hash__` of a subclass runs.
fn plain(text: &Bound<'_, PyString>) -> PyResult<Py<PyString>> {
    if text.is_exact_instance_of::<PyString>() {
        return Ok(text.clone().unbind());
    }
    Ok(PyString::new(text.py(), text.to_str()?).unbind())
}
