//! `Query`: which events a read returns, and in which order.

use eventbraid_engine::{self as engine, Error, LogQuery, ReadMode, StreamQuery, check_stream};
use pyo3::prelude::*;
use std::sync::Arc;

use crate::error::exception;
use crate::log_filter::LogFilter;
use crate::text::{string, utf8};

/// The maximum number of bytes of log in one page, unless a single event is larger.
const PAGE_BYTES: usize = 1024 * 1024;

/// The maximum number of bytes of log in a page that the event loop's own thread reads. Reading
/// them takes about a tenth of a millisecond.
const NON_BLOCKING_PAGE_BYTES: usize = 256 * 1024;

/// The events of one stream, or of the log through a filter.
#[pyclass(frozen, from_py_object, module = "eventbraid._native")]
#[derive(Clone)]
pub(crate) struct Query(Arc<Wanted>);

struct Wanted {
    source: Source,
    after: u64,
    before: Option<u64>,
    backward: bool,
}

enum Source {
    Stream(Box<str>),
    Log(LogFilter),
}

/// The part of a query that one page returns.
#[derive(Clone, Copy)]
pub(crate) struct PageBounds {
    /// The version or position of the last event of the page before, if there is one.
    pub(crate) cursor: Option<u64>,
    /// The maximum number of events.
    pub(crate) limit: usize,
    /// The position that the whole read is pinned to; the durable head if not given.
    pub(crate) at: Option<u64>,
}

#[pymethods]
impl Query {
    #[new]
    #[pyo3(signature = (wanted, after=0, before=None, backward=false))]
    fn new(
        py: Python<'_>,
        wanted: &Bound<'_, PyAny>,
        after: u64,
        before: Option<u64>,
        backward: bool,
    ) -> PyResult<Self> {
        let source = if let Ok(filter) = wanted.cast::<LogFilter>() {
            Source::Log(filter.get().clone())
        } else {
            let stream = utf8("stream", string("stream", wanted)?)?;
            check_stream(stream).map_err(|error| exception(py, error))?;
            Source::Stream(stream.into())
        };
        Ok(Self(Arc::new(Wanted {
            source,
            after,
            before,
            backward,
        })))
    }
}

impl Query {
    /// Read one page.
    pub(crate) fn page(
        &self,
        store: &engine::Store,
        bounds: PageBounds,
        mode: ReadMode,
    ) -> Result<engine::ReadBatch, Error> {
        let PageBounds { cursor, limit, at } = bounds;
        let wanted = &*self.0;
        let backward = wanted.backward;
        // Both bounds are exclusive. The cursor replaces the bound at which the read begins.
        let (after, before) = if backward {
            (wanted.after, cursor.or(wanted.before))
        } else {
            (cursor.unwrap_or(wanted.after), wanted.before)
        };
        let max_bytes = page_bytes(mode);
        match &wanted.source {
            Source::Stream(stream) => store.read_stream(&StreamQuery {
                stream,
                after,
                before,
                limit,
                max_bytes,
                backward,
                at,
                mode,
            }),
            Source::Log(filter) => filter.with_filter(|filter| {
                store.read_log(&LogQuery {
                    after,
                    before,
                    limit,
                    max_bytes,
                    backward,
                    at,
                    filter,
                    mode,
                })
            }),
        }
    }
}

/// Return the maximum number of bytes of log in one page.
pub(crate) fn page_bytes(mode: ReadMode) -> usize {
    match mode {
        ReadMode::NonBlocking => NON_BLOCKING_PAGE_BYTES,
        ReadMode::Blocking => PAGE_BYTES,
    }
}
