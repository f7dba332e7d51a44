//! Appends: from Python's events to the engine's, without a copy in between.

use eventbraid_engine::{
    self as engine, Append, Error, EventInput, Expectation, Prepared, Ticket, prepare,
};
use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyList, PyMapping, PyString, PyTuple};

use std::cell::Cell;

use crate::appended::Appended;
use crate::completion::Promise;
use crate::error::{Conditions, append_exception, exception, invalid};
use crate::interrupt;
use crate::new_event::NewEvent;
use crate::pending_append::PendingAppend;
use crate::text::{argument_text, bytes, carried_metadata, string, type_name, utf8, wrong_type};

/// The minimum size in bytes for which encoding detaches from the interpreter. Below it, encoding
/// takes less time than it may take to get the GIL back from another thread.
const WORTH_DETACHING: usize = 64 * 1024;

/// The arguments of one append, as Python passed them.
pub(crate) struct Arguments<'a, 'py> {
    pub(crate) events: &'a Bound<'py, PyAny>,
    pub(crate) expect: Option<&'a Bound<'py, PyAny>>,
    pub(crate) idempotency_key: Option<&'a Bound<'py, PyString>>,
    pub(crate) content: Option<&'a [u8]>,
    /// The reservation under which the append is made; 0 if none.
    pub(crate) reservation: u64,
    pub(crate) expect_categories: Option<&'a Bound<'py, PyAny>>,
    /// The part of the append on which others may build, if any.
    pub(crate) pending: Option<&'a PendingAppend>,
}

thread_local! {
    /// The address of the exception that the last append of this thread raised; 0 if none. It is
    /// only compared and never dereferenced.
    static RAISED: Cell<usize> = const { Cell::new(0) };
}

/// Record the exception of an append for [`mark_interrupted`].
fn record_raised<T>(py: Python<'_>, outcome: PyResult<T>) -> PyResult<T> {
    let raised = outcome
        .as_ref()
        .map_or_else(|error| error.value(py).as_ptr() as usize, |_| 0);
    RAISED.set(raised);
    outcome
}

/// Mark an exception that ended a call of `append` but is not the outcome of the append: the commit
/// has begun and continues.
///
/// A signal handler runs as soon as the native call has returned, and its exception replaces the
/// result. An exception of the native call itself is the outcome and is left as it is.
#[pyfunction]
#[pyo3(signature = (error, idempotency_key, /))]
pub(crate) fn mark_interrupted(
    error: &Bound<'_, PyBaseException>,
    idempotency_key: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    if RAISED.get() == error.as_ptr() as usize {
        return Ok(());
    }
    let key = idempotency_key.and_then(|key| key.extract::<String>().ok());
    mark_unknown(error, key.as_deref())
}

fn mark_unknown(error: &Bound<'_, PyBaseException>, key: Option<&str>) -> PyResult<()> {
    let remedy = match key {
        Some(key) => {
            let key = PyString::new(error.py(), key).repr()?;
            format!("append again with the key {key}")
        }
        None => "look for its events in the log".to_owned(),
    };
    error.setattr("outcome_unknown", true)?;
    let note =
        format!("the commit of this append continues and its outcome is unknown here; {remedy}");
    error.call_method1("add_note", (note,))?;
    Ok(())
}

/// Append and wait until the commit is durable.
pub(crate) fn append(
    py: Python<'_>,
    store: &engine::Store,
    arguments: &Arguments<'_, '_>,
) -> PyResult<Appended> {
    record_raised(py, append_and_wait(py, store, arguments))
}

fn append_and_wait(
    py: Python<'_>,
    store: &engine::Store,
    arguments: &Arguments<'_, '_>,
) -> PyResult<Appended> {
    let reservation = arguments.reservation;
    let begun = arguments.with_append(|append| match arguments.pending {
        // Detach from the interpreter once, from the first encoded byte to the result. With many
        // threads, each return to Python means another wait for the GIL.
        None => Ok(py.detach(|| BegunAppend::begin(store, append, reservation))),
        // Don't detach before the append is queued, however large it is: other threads may decide on
        // its state already, and their appends are refused if they are queued before this one.
        Some(link) => {
            let prepared = prepare(append).map_err(|error| exception(py, error))?;
            let intent = Intent::of(append, &prepared);
            let prepared = link.link(prepared).under(reservation);
            Ok(BegunAppend::queue(store, prepared, intent))
        }
    });
    let BegunAppend {
        ticket,
        intent,
        answer,
    } = begun?.map_err(|error| exception(py, error))?;
    let answered = match answer {
        Some(answer) => Ok(answer),
        None => py
            .check_signals()
            .and_then(|()| interrupt::wait(py, |slice| ticket.wait(slice))),
    };
    match answered {
        Ok(result) => result
            .map(Appended::from)
            .map_err(|error| intent.raised(py, error)),
        Err(interruption) => Err(intent.marked(py, interruption)),
    }
}

/// Append, and deliver the result to the port.
pub(crate) fn append_async(
    py: Python<'_>,
    store: &engine::Store,
    promise: Promise,
    arguments: &Arguments<'_, '_>,
) -> PyResult<u64> {
    record_raised(py, submit(py, store, promise, arguments))
}

fn submit(
    py: Python<'_>,
    store: &engine::Store,
    promise: Promise,
    arguments: &Arguments<'_, '_>,
) -> PyResult<u64> {
    let prepared = arguments.with_append(|append| {
        // As in `append_and_wait`, a linked append is queued before other threads run.
        let prepared = match arguments.pending {
            None => encode(py, append)?,
            Some(_) => prepare(append).map_err(|error| exception(py, error))?,
        };
        let intent = Intent::of(append, &prepared);
        Ok((prepared, intent))
    });
    let (prepared, intent) = prepared?;
    let token = promise.token();
    let answer = move |result: Result<engine::Appended, Error>| {
        promise.deliver(move |py| match result {
            Ok(done) => Ok(Bound::new(py, Appended::from(done))?.into_any()),
            Err(error) => Err(intent.raised(py, error)),
        });
    };
    let prepared = match arguments.pending {
        Some(pending) => pending.link(prepared),
        None => prepared,
    };
    store.submit(prepared.under(arguments.reservation), Box::new(answer));
    Ok(token)
}

/// Encode an append, detached from the interpreter if that takes long.
fn encode(py: Python<'_>, append: &Append<'_>) -> PyResult<Prepared> {
    let size: usize = append.events.iter().map(|event| event.data.len()).sum();
    let prepared = if size >= WORTH_DETACHING {
        py.detach(|| prepare(append))
    } else {
        prepare(append)
    };
    prepared.map_err(|error| exception(py, error))
}

/// An append that was begun.
struct BegunAppend {
    ticket: Ticket,
    intent: Intent,
    /// The result, if it is known already.
    answer: Option<Result<engine::Appended, Error>>,
}

impl BegunAppend {
    /// Encode and commit an append, and wait one slice for its result.
    fn begin(store: &engine::Store, append: &Append<'_>, reservation: u64) -> Result<Self, Error> {
        let prepared = prepare(append)?.under(reservation);
        let intent = Intent::of(append, &prepared);
        let ticket = store.begin(prepared)?;
        let answer = ticket.wait(interrupt::SLICE);
        Ok(Self {
            ticket,
            intent,
            answer,
        })
    }

    /// Queue an append, and don't wait for its result.
    fn queue(store: &engine::Store, prepared: Prepared, intent: Intent) -> Result<Self, Error> {
        Ok(Self {
            ticket: store.queue(prepared)?,
            intent,
            answer: None,
        })
    }
}

/// The idempotency key and the event ids, which the exception reports if the outcome of the append
/// is unknown.
struct Intent {
    key: Option<Box<str>>,
    event_ids: Vec<[u8; 16]>,
}

impl Intent {
    fn of(append: &Append<'_>, prepared: &Prepared) -> Self {
        Self {
            key: append.idempotency_key.map(Into::into),
            event_ids: prepared.event_ids().collect(),
        }
    }

    fn raised(&self, py: Python<'_>, error: Error) -> PyErr {
        append_exception(py, error, self.key.as_deref(), &self.event_ids)
    }

    /// Mark an interruption: the commit continues, and its outcome is unknown.
    fn marked(&self, py: Python<'_>, interruption: PyErr) -> PyErr {
        if let Err(error) = mark_unknown(interruption.value(py), self.key.as_deref()) {
            error.write_unraisable(py, None);
        }
        interruption
    }
}

/// The Python objects of one event. They own the bytes that the engine's event borrows.
struct EventObjects<'py> {
    stream: Bound<'py, PyString>,
    event_type: Bound<'py, PyString>,
    data: Bound<'py, PyBytes>,
    /// The event, if the caller passed a `NewEvent` and not a tuple.
    event: Option<Bound<'py, NewEvent>>,
}

impl Arguments<'_, '_> {
    /// Call `act` with the engine's append, which borrows all its parts from Python's objects.
    fn with_append<T>(&self, act: impl FnOnce(&Append<'_>) -> PyResult<T>) -> PyResult<T> {
        let objects = all_objects(self.events)?;
        let inputs = objects
            .iter()
            .map(EventObjects::input)
            .collect::<PyResult<Vec<_>>>()?;
        let expected = expectations("stream", self.expect)?;
        let expected = borrowed("stream", &expected)?;
        let expected_categories = expectations("category", self.expect_categories)?;
        let expected_categories = borrowed("category", &expected_categories)?;
        let key = self
            .idempotency_key
            .map(|key| utf8("idempotency key", key))
            .transpose()?;
        act(&Append {
            events: &inputs,
            expectations: &expected,
            category_expectations: &expected_categories,
            idempotency_key: key,
            content: self.content,
        })
    }
}

fn all_objects<'py>(events: &Bound<'py, PyAny>) -> PyResult<Vec<EventObjects<'py>>> {
    if let Ok(list) = events.cast_exact::<PyList>() {
        return list.iter().map(objects).collect();
    }
    if let Ok(tuple) = events.cast_exact::<PyTuple>() {
        return tuple.iter().map(objects).collect();
    }
    if events.is_instance_of::<PyString>() || events.is_instance_of::<PyBytes>() {
        return Err(wrong_type("events", "an iterable of events", events));
    }
    if events.is_instance_of::<NewEvent>() {
        return Err(wrong_type(
            "events",
            "an iterable of events, such as [event]",
            events,
        ));
    }
    events.try_iter()?.map(|event| objects(event?)).collect()
}

fn objects(event: Bound<'_, PyAny>) -> PyResult<EventObjects<'_>> {
    if let Ok(tuple) = event.cast::<PyTuple>() {
        return objects_of_tuple(tuple);
    }
    let event = event
        .cast_into::<NewEvent>()
        .map_err(|error| not_an_event(&error.into_inner()))?;
    let (py, new) = (event.py(), event.get());
    Ok(EventObjects {
        stream: new.stream(py).clone(),
        event_type: new.event_type(py).clone(),
        data: new.data(py).clone(),
        event: Some(event),
    })
}

/// The exception for an object that can't be appended as an event.
fn not_an_event(given: &Bound<'_, PyAny>) -> PyErr {
    let found = given.cast::<PyTuple>().map_or_else(
        |_| type_name(&given.get_type()),
        |tuple| format!("a tuple of length {}", tuple.len()),
    );
    PyTypeError::new_err(format!(
        "each event must be a NewEvent or a (stream, type, data) tuple, not {found}; build the \
         event of a registered class with eventbraid.new_event(stream, event)"
    ))
}

fn objects_of_tuple<'py>(tuple: &Bound<'py, PyTuple>) -> PyResult<EventObjects<'py>> {
    if tuple.len() != 3 {
        return Err(not_an_event(tuple.as_any()));
    }
    if carried_metadata(&tuple.get_item(2)?)?.is_some() {
        return objects(NewEvent::of_tuple(tuple)?.into_any());
    }
    Ok(EventObjects {
        stream: string("stream", &tuple.get_item(0)?)?.clone(),
        event_type: string("event type", &tuple.get_item(1)?)?.clone(),
        data: bytes("data", &tuple.get_item(2)?)?,
        event: None,
    })
}

impl EventObjects<'_> {
    /// The engine's event, borrowed from these objects.
    fn input(&self) -> PyResult<EventInput<'_>> {
        let event = self.event.as_ref().map(Bound::get);
        let stream = utf8("stream", &self.stream)?;
        if engine::is_system(stream) && !event.is_some_and(NewEvent::is_system) {
            let reason = "ids that begin with $ are reserved for the library; use another id";
            return Err(invalid("stream", stream.to_owned(), reason.to_owned()));
        }
        Ok(EventInput {
            stream,
            event_type: utf8("event type", &self.event_type)?,
            event_id: event.and_then(NewEvent::id_bytes),
            metadata: event.map_or(b"", NewEvent::encoded_metadata),
            library_metadata: event.map_or(b"", NewEvent::encoded_library_metadata),
            data: self.data.as_bytes(),
            content: event.and_then(|event| event.own_content(self.stream.py())),
        })
    }
}

type Expected<'py> = Vec<(Bound<'py, PyString>, Expectation)>;

/// Convert the expectations on streams or on categories, which `what` names in errors.
fn expectations<'py>(
    what: &'static str,
    expect: Option<&Bound<'py, PyAny>>,
) -> PyResult<Expected<'py>> {
    let Some(expect) = expect else {
        return Ok(Vec::new());
    };
    let converted = |(name, expected): (Bound<'py, PyAny>, Bound<'py, PyAny>)| {
        Ok((string(what, &name)?.clone(), expectation(&expected)?))
    };
    if let Ok(dict) = expect.cast_exact::<PyDict>() {
        return dict.iter().map(converted).collect();
    }
    let mapping = expect
        .cast::<PyMapping>()
        .map_err(|_| wrong_type("expectations", &format!("a mapping by {what}"), expect))?;
    mapping
        .items()?
        .iter()
        .map(|item| converted(item.extract()?))
        .collect()
}

/// Borrow the names of expectations from Python's strings.
fn borrowed<'a>(
    what: &'static str,
    expected: &'a Expected<'_>,
) -> PyResult<Vec<(&'a str, Expectation)>> {
    let pair = |(name, expectation): &'a (Bound<'_, PyString>, Expectation)| {
        Ok((utf8(what, name)?, *expectation))
    };
    expected.iter().map(pair).collect()
}

fn expectation(expected: &Bound<'_, PyAny>) -> PyResult<Expectation> {
    let py = expected.py();
    if !expected.is_instance_of::<PyInt>() || expected.is_instance_of::<PyBool>() {
        if let Some(condition) = condition(expected, Conditions::first(py)?) {
            return Ok(condition);
        }
        return condition_of_another_import(expected);
    }
    let version = expected.extract::<u64>().map_err(|_| {
        let reason = "a version is 0 or more, and fits 64 bits".to_owned();
        invalid("expectation", argument_text(expected), reason)
    })?;
    Ok(Expectation::Exact(version))
}

/// Return the expectation for a condition that is not a member of the first import: a process that
/// imported the package again has other members.
#[cold]
fn condition_of_another_import(expected: &Bound<'_, PyAny>) -> PyResult<Expectation> {
    Conditions::of_another_import(expected.py())?
        .and_then(|conditions| condition(expected, &conditions))
        .ok_or_else(|| wrong_type("expectation", "an int, ANY, NO_STREAM or EXISTS", expected))
}

fn condition(expected: &Bound<'_, PyAny>, conditions: &Conditions) -> Option<Expectation> {
    if expected.is(&conditions.any) {
        return Some(Expectation::Any);
    }
    if expected.is(&conditions.no_stream) {
        return Some(Expectation::NoStream);
    }
    expected
        .is(&conditions.exists)
        .then_some(Expectation::Exists)
}
