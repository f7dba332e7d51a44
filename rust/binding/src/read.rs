//! Reading: the arguments of a read, owned, so that any thread may run it.

use eventbraid_engine::{self as engine, Error, Page, ReadMode, Snapshot, SnapshotQuery};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyMapping, PyString};

use crate::appended::Appended;
use crate::completion::Promise;
use crate::error::{exception, invalid};
use crate::page;
use crate::query::{PageBounds, Query};
use crate::reader_pool::ReaderPool;
use crate::snapshot::StreamsSnapshot;
use crate::text::{argument_text, string, utf8, wrong_type};

/// A read that owns its arguments.
pub(crate) trait Read: Send + Sync + Sized + 'static {
    type Found: Send + 'static;

    fn run(&self, store: &engine::Store, mode: ReadMode) -> Result<Self::Found, Error>;

    fn shown<'py>(&self, py: Python<'py>, found: Self::Found) -> PyResult<Bound<'py, PyAny>>;

    /// Reads with the interpreter detached.
    fn blocking<'py>(&self, py: Python<'py>, store: &engine::Store) -> PyResult<Bound<'py, PyAny>> {
        let found = py.detach(|| self.run(store, ReadMode::Blocking));
        self.shown(py, found.map_err(|error| exception(py, error))?)
    }

    /// Reads at once if all is in memory; else on a thread, and answers the token under
    /// which the result arrives.
    fn inline<'py>(
        self,
        py: Python<'py>,
        store: &engine::Store,
        pool: &ReaderPool,
        promise: Promise,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.run(store, ReadMode::NonBlocking) {
            Err(Error::WouldBlock) => {
                let token = promise.token();
                let store = store.clone();
                pool.run(move || {
                    let found = self.run(&store, ReadMode::Blocking);
                    promise.keep(move |py| {
                        self.shown(py, found.map_err(|error| exception(py, error))?)
                    });
                });
                Ok(token.into_pyobject(py)?.into_any())
            }
            found => self.shown(py, found.map_err(|error| exception(py, error))?),
        }
    }
}

/// One page of a query.
pub(crate) struct PageRead {
    pub(crate) query: Query,
    pub(crate) bounds: PageBounds,
}

/// What was done under an idempotency key.
pub(crate) struct CommittedRead {
    pub(crate) key: Box<str>,
    pub(crate) content: Option<Box<[u8]>>,
}

/// Several streams as of one position.
pub(crate) struct SnapshotRead {
    streams: Vec<(Box<str>, u64)>,
    at: Option<u64>,
}

impl Read for PageRead {
    type Found = Page;

    fn run(&self, store: &engine::Store, mode: ReadMode) -> Result<Page, Error> {
        self.query.page(store, self.bounds, mode)
    }

    fn shown<'py>(&self, py: Python<'py>, page: Page) -> PyResult<Bound<'py, PyAny>> {
        page::Page::shown(py, page)
    }
}

impl Read for CommittedRead {
    type Found = Option<engine::Appended>;

    fn run(&self, store: &engine::Store, mode: ReadMode) -> Result<Self::Found, Error> {
        store.committed(&self.key, self.content.as_deref(), mode)
    }

    fn shown<'py>(&self, py: Python<'py>, found: Self::Found) -> PyResult<Bound<'py, PyAny>> {
        found.map(Appended::from).into_bound_py_any(py)
    }
}

impl Read for SnapshotRead {
    type Found = Snapshot;

    fn run(&self, store: &engine::Store, mode: ReadMode) -> Result<Snapshot, Error> {
        let streams: Vec<_> = self
            .streams
            .iter()
            .map(|(name, after)| (&**name, *after))
            .collect();
        store.read_streams(&SnapshotQuery {
            streams: &streams,
            at: self.at,
            mode,
        })
    }

    fn shown<'py>(&self, py: Python<'py>, snapshot: Snapshot) -> PyResult<Bound<'py, PyAny>> {
        StreamsSnapshot::shown(py, &self.streams, snapshot)
    }
}

impl SnapshotRead {
    /// Takes over the arguments of a read of several streams.
    pub(crate) fn of(
        streams: &Bound<'_, PyAny>,
        at: Option<&Bound<'_, PyAny>>,
        after: Option<&Bound<'_, PyMapping>>,
    ) -> PyResult<Self> {
        let at = at.map(|at| number("at", at)).transpose()?;
        if streams.is_instance_of::<PyString>() {
            return Err(wrong_type("streams", "an iterable of stream ids", streams));
        }
        let streams = streams
            .try_iter()?
            .map(|stream| {
                let stream = stream?;
                let known = match after {
                    Some(after) if after.contains(&stream)? => {
                        number("after", &after.get_item(&stream)?)?
                    }
                    _ => 0,
                };
                Ok((utf8("stream", string("stream", &stream)?)?.into(), known))
            })
            .collect::<PyResult<_>>()?;
        Ok(Self { streams, at })
    }
}

/// A version or a position, or a refusal that names the argument.
fn number(what: &'static str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    if !value.is_instance_of::<PyInt>() || value.is_instance_of::<PyBool>() {
        return Err(wrong_type(what, "an int", value));
    }
    value.extract::<u64>().map_err(|_| {
        let reason = "it must be 0 or more, and fit 64 bits".to_owned();
        invalid(what, argument_text(value), reason)
    })
}
