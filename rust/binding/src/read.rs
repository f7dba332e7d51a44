//! Reads: their arguments, owned, so that any thread may run one.

use eventbraid_engine::{
    self as engine, CategoryQuery, CategoryStreams, Error, ReadBatch, ReadMode, Snapshot,
    SnapshotQuery,
};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyMapping, PyString, PyTuple};

use crate::appended::Appended;
use crate::completion::Promise;
use crate::error::{exception, invalid};
use crate::page;
use crate::query::{PageBounds, Query, page_bytes};
use crate::reader_pool::ReaderPool;
use crate::snapshot::StreamsSnapshot;
use crate::text::{argument_text, string, utf8, wrong_type};

/// A read that owns its arguments.
pub(crate) trait Read: Send + Sync + Sized + 'static {
    type Output: Send + 'static;

    /// Read from the engine, without Python.
    fn run(&self, store: &engine::Store, mode: ReadMode) -> Result<Self::Output, Error>;

    /// Convert the result to its Python value.
    fn to_python<'py>(&self, py: Python<'py>, output: Self::Output) -> PyResult<Bound<'py, PyAny>>;

    /// Read with the interpreter detached.
    fn blocking<'py>(&self, py: Python<'py>, store: &engine::Store) -> PyResult<Bound<'py, PyAny>> {
        let output = py.detach(|| self.run(store, ReadMode::Blocking));
        self.to_python(py, output.map_err(|error| exception(py, error))?)
    }

    /// Read at once if everything is in memory, and return the result. Otherwise a thread of the
    /// pool reads, and the result arrives at the port with the returned token.
    fn non_blocking<'py>(
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
                    let output = self.run(&store, ReadMode::Blocking);
                    promise.deliver(move |py| {
                        self.to_python(py, output.map_err(|error| exception(py, error))?)
                    });
                });
                Ok(token.into_pyobject(py)?.into_any())
            }
            output => self.to_python(py, output.map_err(|error| exception(py, error))?),
        }
    }
}

/// One page of a query.
pub(crate) struct PageRead {
    pub(crate) query: Query,
    pub(crate) bounds: PageBounds,
}

/// A read of the result that was committed with an idempotency key.
pub(crate) struct CommittedRead {
    pub(crate) key: Box<str>,
    pub(crate) content: Option<Box<[u8]>>,
}

/// A read of several streams as of one position.
pub(crate) struct SnapshotRead {
    streams: Vec<(Box<str>, u64)>,
    at: Option<u64>,
    /// The maximum number of events; `None` for all.
    limit: Option<usize>,
}

/// A read of the streams of a category as of one position.
pub(crate) struct CategoryRead {
    category: Box<str>,
    at: Option<u64>,
    after: u64,
    limit: usize,
}

impl Read for CategoryRead {
    type Output = CategoryStreams;

    fn run(&self, store: &engine::Store, mode: ReadMode) -> Result<CategoryStreams, Error> {
        store.category_streams(&CategoryQuery {
            category: &self.category,
            after: self.after,
            limit: self.limit,
            at: self.at,
            mode,
        })
    }

    fn to_python<'py>(
        &self,
        py: Python<'py>,
        streams: CategoryStreams,
    ) -> PyResult<Bound<'py, PyAny>> {
        let names = PyTuple::new(py, streams.names.iter().map(|name| &**name))?;
        (streams.position, streams.version, names).into_bound_py_any(py)
    }
}

impl CategoryRead {
    /// Convert the arguments of a read of a category. Without a limit, all streams are read.
    pub(crate) fn of(
        category: &Bound<'_, PyString>,
        at: Option<u64>,
        after: u64,
        limit: Option<usize>,
    ) -> PyResult<Self> {
        Ok(Self {
            category: utf8("category", category)?.into(),
            at,
            after,
            limit: limit.unwrap_or(usize::MAX),
        })
    }
}

impl Read for PageRead {
    type Output = ReadBatch;

    fn run(&self, store: &engine::Store, mode: ReadMode) -> Result<ReadBatch, Error> {
        self.query.page(store, self.bounds, mode)
    }

    fn to_python<'py>(&self, py: Python<'py>, batch: ReadBatch) -> PyResult<Bound<'py, PyAny>> {
        page::Page::from_engine(py, batch)
    }
}

impl Read for CommittedRead {
    type Output = Option<engine::Appended>;

    fn run(&self, store: &engine::Store, mode: ReadMode) -> Result<Self::Output, Error> {
        store.committed(&self.key, self.content.as_deref(), mode)
    }

    fn to_python<'py>(&self, py: Python<'py>, output: Self::Output) -> PyResult<Bound<'py, PyAny>> {
        output.map(Appended::from).into_bound_py_any(py)
    }
}

impl Read for SnapshotRead {
    type Output = Snapshot;

    fn run(&self, store: &engine::Store, mode: ReadMode) -> Result<Snapshot, Error> {
        let streams: Vec<_> = self
            .streams
            .iter()
            .map(|(name, after)| (&**name, *after))
            .collect();
        store.read_streams(&SnapshotQuery {
            streams: &streams,
            at: self.at,
            limit: self.limit.unwrap_or(usize::MAX),
            max_bytes: self.limit.map_or(usize::MAX, |_| page_bytes(mode)),
            mode,
        })
    }

    fn to_python<'py>(&self, py: Python<'py>, snapshot: Snapshot) -> PyResult<Bound<'py, PyAny>> {
        StreamsSnapshot::from_engine(py, &self.streams, snapshot)
    }
}

impl SnapshotRead {
    /// Convert the arguments of a read of several streams.
    pub(crate) fn of(
        streams: &Bound<'_, PyAny>,
        at: Option<&Bound<'_, PyAny>>,
        after: Option<&Bound<'_, PyMapping>>,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let at = at.map(|at| number("at", at)).transpose()?;
        let limit = limit.map(|limit| number("limit", limit)).transpose()?;
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if streams.is_instance_of::<PyString>() {
            return Err(wrong_type("streams", "an iterable of stream ids", streams));
        }
        let streams = streams
            .try_iter()?
            .map(|stream| {
                let stream = stream?;
                let version = match after {
                    Some(after) if after.contains(&stream)? => {
                        number("after", &after.get_item(&stream)?)?
                    }
                    _ => 0,
                };
                Ok((utf8("stream", string("stream", &stream)?)?.into(), version))
            })
            .collect::<PyResult<_>>()?;
        Ok(Self { streams, at, limit })
    }
}

/// Convert a version or a position; the error names the argument.
fn number(what: &'static str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    if !value.is_instance_of::<PyInt>() || value.is_instance_of::<PyBool>() {
        return Err(wrong_type(what, "an int", value));
    }
    value.extract::<u64>().map_err(|_| {
        let reason = "it must be 0 or more, and fit 64 bits".to_owned();
        invalid(what, argument_text(value), reason)
    })
}
