//! `Store`: an open event store.

use eventbraid_engine::{self as engine, Error, ReadMode};
use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyString};
use std::sync::Arc;

use crate::append::{self, Arguments};
use crate::appended::Appended;
use crate::completion::CompletionPort;
use crate::engine::Engine;
use crate::error::{close_exception, exception, open_exception};
use crate::interrupt;
use crate::open_request::{Location, OpenRequest, Options};
use crate::pending_append::PendingAppend;
use crate::query::{PageBounds, Query};
use crate::read::{CategoryRead, CommittedRead, PageRead, Read, SnapshotRead};
use crate::report;
use crate::stream_names::StreamNames;
use crate::text::utf8;

/// An open event store.
#[pyclass(frozen, module = "eventbraid._native")]
pub(crate) struct Store {
    engine: Arc<Engine>,
}

#[pymethods]
impl Store {
    /// Open a directory, or a new store in memory.
    #[staticmethod]
    #[pyo3(signature = (location, options, identity=None))]
    #[expect(clippy::needless_pass_by_value, reason = "converted from Python")]
    fn open(
        py: Python<'_>,
        location: Location,
        options: Options,
        identity: Option<[u8; 16]>,
    ) -> PyResult<Self> {
        let request = OpenRequest::new(location, &options, identity)?;
        let opened = interrupt::run(py, "open", move || request.run())?;
        Ok(Self::new(
            opened.map_err(|error| open_exception(py, error))?,
        ))
    }

    /// Like `open`; a `Store` arrives at the port.
    #[staticmethod]
    #[pyo3(signature = (port, location, options))]
    #[expect(clippy::needless_pass_by_value, reason = "converted from Python")]
    fn open_async(port: &CompletionPort, location: Location, options: Options) -> PyResult<u64> {
        let request = OpenRequest::new(location, &options, None)?;
        let path = request.path();
        let promise = port.promise();
        let token = promise.token();
        let started = interrupt::spawn("open", move || {
            let opened = request.run().map(Self::new);
            promise.deliver(move |py| {
                let store = opened.map_err(|error| open_exception(py, error))?;
                Ok(Bound::new(py, store)?.into_any())
            });
        });
        started.map_err(|no_thread| no_thread.exception(&path))?;
        Ok(token)
    }

    /// Append events and wait until they are durable.
    #[pyo3(signature = (
        events, expect=None, idempotency_key=None, content=None, reservation=0,
        expect_categories=None, pending=None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "an append has so many facts")]
    fn append(
        &self,
        py: Python<'_>,
        events: &Bound<'_, PyAny>,
        expect: Option<&Bound<'_, PyAny>>,
        idempotency_key: Option<&Bound<'_, PyString>>,
        content: Option<&[u8]>,
        reservation: u64,
        expect_categories: Option<&Bound<'_, PyAny>>,
        pending: Option<&Bound<'_, PendingAppend>>,
    ) -> PyResult<Appended> {
        let arguments = Arguments {
            events,
            expect,
            idempotency_key,
            content,
            reservation,
            expect_categories,
            pending: pending.map(Bound::get),
        };
        append::append(py, &self.engine.store()?, &arguments)
    }

    /// Like `append`; `Appended` arrives at the port. Bad input raises at once.
    #[pyo3(signature = (
        port, events, expect=None, idempotency_key=None, content=None, reservation=0,
        expect_categories=None, pending=None,
    ))]
    #[expect(clippy::too_many_arguments, reason = "an append has so many facts")]
    fn append_async(
        &self,
        py: Python<'_>,
        port: &CompletionPort,
        events: &Bound<'_, PyAny>,
        expect: Option<&Bound<'_, PyAny>>,
        idempotency_key: Option<&Bound<'_, PyString>>,
        content: Option<&[u8]>,
        reservation: u64,
        expect_categories: Option<&Bound<'_, PyAny>>,
        pending: Option<&Bound<'_, PendingAppend>>,
    ) -> PyResult<u64> {
        let arguments = Arguments {
            events,
            expect,
            idempotency_key,
            content,
            reservation,
            expect_categories,
            pending: pending.map(Bound::get),
        };
        append::append_async(py, &self.engine.store()?, port.promise(), &arguments)
    }

    /// Reserve streams and categories: other callers' appends to them wait. Return None if a
    /// reservation exists.
    #[expect(clippy::needless_pass_by_value, reason = "taken over from Python")]
    #[pyo3(signature = (streams, seconds, categories=Vec::new()))]
    fn reserve(
        &self,
        py: Python<'_>,
        streams: Vec<PyBackedStr>,
        seconds: f64,
        categories: Vec<PyBackedStr>,
    ) -> PyResult<Option<u64>> {
        let store = self.engine.store()?;
        let time = crate::text::seconds("reservation", seconds)?;
        let reserved = py.detach(|| {
            let streams: Vec<_> = streams.iter().map(|stream| &**stream).collect();
            let categories: Vec<_> = categories.iter().map(|category| &**category).collect();
            store.reserve(&streams, &categories, time)
        });
        reserved.map_err(|error| exception(py, error))
    }

    /// End a reservation, unless it has ended.
    fn release(&self, reservation: u64) -> PyResult<()> {
        self.engine.store()?.release(reservation);
        Ok(())
    }

    /// Return the result of an earlier append with an idempotency key; None if there is none.
    #[pyo3(signature = (idempotency_key, content=None))]
    fn committed<'py>(
        &self,
        py: Python<'py>,
        idempotency_key: &Bound<'py, PyString>,
        content: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyAny>> {
        committed_read(idempotency_key, content)?.blocking(py, &self.engine.store()?)
    }

    /// Like `committed`; return a token only if the result isn't in memory.
    #[pyo3(signature = (port, idempotency_key, content=None))]
    fn committed_async<'py>(
        &self,
        py: Python<'py>,
        port: &CompletionPort,
        idempotency_key: &Bound<'py, PyString>,
        content: Option<&[u8]>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.inline(py, port, committed_read(idempotency_key, content)?)
    }

    /// Catch up with what other processes have written; return a token only if that has to wait.
    fn catch_up_async(&self, port: &CompletionPort) -> PyResult<Option<u64>> {
        let store = self.engine.store()?;
        // The call that follows reports any other error.
        if !matches!(
            store.catch_up(ReadMode::NonBlocking),
            Err(Error::WouldBlock)
        ) {
            return Ok(None);
        }
        let store = store.clone();
        let promise = port.promise();
        let token = promise.token();
        self.engine.readers()?.run(move || {
            let _reported_later = store.catch_up(ReadMode::Blocking);
            promise.deliver(|py| Ok(py.None().into_bound(py)));
        });
        Ok(Some(token))
    }

    /// Return the position of the last durable event; 0 if there is none.
    fn head(&self, py: Python<'_>) -> PyResult<u64> {
        let store = self.engine.store()?;
        let head = py.detach(|| store.head());
        head.map_err(|error| exception(py, error))
    }

    /// Return the durable version of a stream; 0 if it has no events.
    fn version(&self, py: Python<'_>, stream: &Bound<'_, PyString>) -> PyResult<u64> {
        let store = self.engine.store()?;
        let stream = utf8("stream", stream)?;
        let version = py.detach(|| store.version(stream));
        version.map_err(|error| exception(py, error))
    }

    /// Read one page of a query.
    fn read<'py>(
        &self,
        py: Python<'py>,
        query: Query,
        cursor: Option<u64>,
        limit: usize,
        at: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bounds = PageBounds { cursor, limit, at };
        PageRead { query, bounds }.blocking(py, &self.engine.store()?)
    }

    /// Like `read`; return a token only if the page isn't in memory.
    fn read_async<'py>(
        &self,
        py: Python<'py>,
        port: &CompletionPort,
        query: Query,
        cursor: Option<u64>,
        limit: usize,
        at: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bounds = PageBounds { cursor, limit, at };
        self.inline(py, port, PageRead { query, bounds })
    }

    /// Read several streams as of one position; with `limit`, the first of their events.
    #[pyo3(signature = (streams, at, after, limit=None))]
    fn read_streams<'py>(
        &self,
        py: Python<'py>,
        streams: &Bound<'py, PyAny>,
        at: Option<&Bound<'py, PyAny>>,
        after: Option<&Bound<'py, PyMapping>>,
        limit: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        SnapshotRead::of(streams, at, after, limit)?.blocking(py, &self.engine.store()?)
    }

    /// Like `read_streams`; return a token only if an event isn't in memory.
    #[pyo3(signature = (port, streams, at, after, limit=None))]
    fn read_streams_async<'py>(
        &self,
        py: Python<'py>,
        port: &CompletionPort,
        streams: &Bound<'py, PyAny>,
        at: Option<&Bound<'py, PyAny>>,
        after: Option<&Bound<'py, PyMapping>>,
        limit: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.inline(py, port, SnapshotRead::of(streams, at, after, limit)?)
    }

    /// Read the streams of a category as of one position: the position, the number of the
    /// category's streams, and the ids after the first `after` ones.
    #[pyo3(signature = (category, at=None, after=0, limit=None))]
    fn category_streams<'py>(
        &self,
        py: Python<'py>,
        category: &Bound<'py, PyString>,
        at: Option<u64>,
        after: u64,
        limit: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        CategoryRead::of(category, at, after, limit)?.blocking(py, &self.engine.store()?)
    }

    /// Like `category_streams`; return a token only if an event isn't in memory.
    #[pyo3(signature = (port, category, at=None, after=0, limit=None))]
    fn category_streams_async<'py>(
        &self,
        py: Python<'py>,
        port: &CompletionPort,
        category: &Bound<'py, PyString>,
        at: Option<u64>,
        after: u64,
        limit: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.inline(py, port, CategoryRead::of(category, at, after, limit)?)
    }

    /// Begin a listing of the streams that have events now.
    fn streams(
        &self,
        py: Python<'_>,
        prefix: &Bound<'_, PyString>,
        system: bool,
    ) -> PyResult<StreamNames> {
        let store = self.engine.store()?;
        let prefix = utf8("prefix", prefix)?;
        let names = py.detach(|| store.streams(prefix, system));
        let names = names.map_err(|error| exception(py, error))?;
        Ok(StreamNames::new(self.engine(), names))
    }

    /// Return the id that the store received when it was created.
    fn identity<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.engine.store()?.identity()))
    }

    /// Return the store's counters by name.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let store = self.engine.store()?;
        report::stats(py, &py.detach(|| store.stats()))
    }

    /// Return the sessions: each session's program, and its counters by name.
    fn sessions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let store = self.engine.store()?;
        report::sessions(py, py.detach(|| store.sessions()))
    }

    /// Read the store's files again and verify them; return the counts.
    fn verify<'py>(&self, py: Python<'py>, quick: bool) -> PyResult<Bound<'py, PyDict>> {
        let store = self.engine.store()?;
        let verify = move || store.verify(depth(quick));
        report::verify_report(py, interrupt::run(py, "verify", verify)?)
    }

    /// Like `verify`; the counts arrive at the port.
    fn verify_async(&self, port: &CompletionPort, quick: bool) -> PyResult<u64> {
        let store = self.engine.store()?;
        let promise = port.promise();
        let token = promise.token();
        self.engine.long_work()?.run(move || {
            let verified = store.verify(depth(quick));
            promise.deliver(move |py| Ok(report::verify_report(py, verified)?.into_any()));
        });
        Ok(token)
    }

    /// Start the heartbeat of this session, unless it runs already; return the session's id.
    fn start_heartbeat(&self, py: Python<'_>) -> PyResult<String> {
        let store = self.engine.store()?;
        let id = py.detach(|| store.start_heartbeat());
        id.map_err(|error| exception(py, error))
    }

    /// Register an event loop whose tasks hold leases; return its number.
    fn register_loop(&self, py: Python<'_>) -> PyResult<u64> {
        let store = self.engine.store()?;
        store.register_loop().map_err(|error| exception(py, error))
    }

    /// Record that a registered event loop runs. Does nothing in a forked child.
    fn tick(&self, number: u64) {
        if let Ok(store) = self.engine.store() {
            store.tick(number);
        }
    }

    /// End the registration of an event loop. Does nothing in a forked child.
    fn unregister_loop(&self, number: u64) {
        if let Ok(store) = self.engine.store() {
            store.unregister_loop(number);
        }
    }

    /// Return the live sessions: id, and seconds since the last heartbeat.
    fn heartbeat_ages(&self, py: Python<'_>) -> PyResult<Vec<(String, f64)>> {
        let store = self.engine.store()?;
        let sessions = py.detach(|| store.live_sessions());
        report::heartbeat_ages(py, sessions)
    }

    /// Like `heartbeat_ages`; the list arrives at the port.
    fn heartbeat_ages_async(&self, port: &CompletionPort) -> PyResult<u64> {
        let store = self.engine.store()?;
        let promise = port.promise();
        let token = promise.token();
        self.engine.readers()?.run(move || {
            let sessions = store.live_sessions();
            promise.deliver(move |py| report::heartbeat_ages(py, sessions)?.into_bound_py_any(py));
        });
        Ok(token)
    }

    /// Finish pending appends and release the directory. May be called again.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let engine = Arc::clone(&self.engine);
        let closed = if engine.is_ours() {
            interrupt::run(py, "close", move || engine.close())?
        } else {
            engine.close()
        };
        closed.map_err(|error| close_exception(py, error))
    }

    /// Like `close`; `None` arrives at the port.
    fn close_async(&self, port: &CompletionPort) -> u64 {
        let promise = port.promise();
        let token = promise.token();
        let engine = Arc::clone(&self.engine);
        let started = interrupt::spawn("close", move || {
            let closed = engine.close();
            drop(engine);
            promise.deliver(move |py| {
                closed.map_err(|error| close_exception(py, error))?;
                Ok(py.None().into_bound(py))
            });
        });
        if let Err(no_thread) = started {
            no_thread.run_here();
        }
        token
    }
}

impl Store {
    fn new(store: engine::Store) -> Self {
        Self {
            engine: Arc::new(Engine::new(store)),
        }
    }

    /// Return the engine's store and the process to which it belongs.
    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine)
    }

    fn inline<'py>(
        &self,
        py: Python<'py>,
        port: &CompletionPort,
        read: impl Read,
    ) -> PyResult<Bound<'py, PyAny>> {
        read.non_blocking(
            py,
            &self.engine.store()?,
            &*self.engine.readers()?,
            port.promise(),
        )
    }
}

fn depth(quick: bool) -> engine::Depth {
    if quick {
        engine::Depth::Quick
    } else {
        engine::Depth::Full
    }
}

fn committed_read(key: &Bound<'_, PyString>, content: Option<&[u8]>) -> PyResult<CommittedRead> {
    let key = utf8("idempotency key", key)?.into();
    Ok(CommittedRead {
        key,
        content: content.map(Into::into),
    })
}
