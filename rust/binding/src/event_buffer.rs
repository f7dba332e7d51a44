//! `EventBuffer`: a place in the log, and the events that were read beyond it.

use eventbraid_engine::lock::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::once::Name;
use crate::page::Page;
use crate::recorded_event::RecordedEvent;

const FIRST_PAGE: usize = 64;
const LARGEST_PAGE: usize = 1024;

static MORE: Name = Name::new("_more");

/// A place in the log, and the events that were read beyond it.
///
/// Taking an event and noting a page are one step each: neither another thread nor an
/// exception of a signal handler can come in between. Iteration takes events, and calls
/// `_more` where there are none.
#[pyclass(frozen, subclass, module = "eventbraid._native")]
pub(crate) struct EventBuffer {
    closed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// Every matching event up to here was handed out.
    after: u64,
    /// Every matching event up to here was read.
    fetched: u64,
    /// How many events the next page should have at most.
    size: usize,
    unread: VecDeque<Py<RecordedEvent>>,
}

#[pymethods]
impl EventBuffer {
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            closed: AtomicBool::new(false),
            state: Mutex::new(State {
                after: 0,
                fetched: 0,
                size: FIRST_PAGE,
                unread: VecDeque::new(),
            }),
        }
    }

    /// Start after a position.
    fn _begin(&self, after: u64) {
        let mut state = self.state.lock();
        (state.after, state.fetched) = (after, after);
    }

    /// The position up to which every matching event was handed out.
    #[getter]
    fn _after(&self) -> u64 {
        self.state.lock().after
    }

    /// The position up to which every matching event was read.
    #[getter]
    fn _fetched(&self) -> u64 {
        self.state.lock().fetched
    }

    /// How many events the next page should have at most.
    #[getter]
    fn _size(&self) -> usize {
        self.state.lock().size
    }

    /// Whether there are events to take.
    #[getter]
    fn _has_unread(&self) -> bool {
        !self.state.lock().unread.is_empty()
    }

    /// Whether iteration has been ended.
    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// End iteration.
    fn _end(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Take the next event; `None` if there is none.
    #[pyo3(name = "_take")]
    fn take(&self, py: Python<'_>) -> Option<Py<RecordedEvent>> {
        let mut state = self.state.lock();
        let taken = state.unread.pop_front()?;
        state.after = if state.unread.is_empty() {
            state.fetched
        } else {
            taken.bind(py).get().position()
        };
        Some(taken)
    }

    /// Note the page that was read after `_fetched`.
    ///
    /// Returns:
    ///     Whether it ends at the head without an event, so that there is only to wait.
    fn _extend(&self, py: Python<'_>, page: &Page) -> PyResult<bool> {
        let events = page.events(py);
        let read: Vec<Py<RecordedEvent>> = events.extract()?;
        let (is_empty, more) = (read.is_empty(), page.more());
        let mut state = self.state.lock();
        state.unread.extend(read);
        // `_pass` may have moved it beyond the page meanwhile, over events that don't match.
        state.fetched = state.fetched.max(page.next());
        if state.unread.is_empty() {
            state.after = state.after.max(state.fetched);
        }
        state.size = if more {
            (state.size * 4).min(LARGEST_PAGE)
        } else {
            FIRST_PAGE
        };
        Ok(is_empty && !more)
    }

    /// Note that no event up to a position matches.
    fn _pass(&self, position: u64) {
        let mut state = self.state.lock();
        state.fetched = state.fetched.max(position);
        if state.unread.is_empty() {
            state.after = state.after.max(state.fetched);
        }
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<RecordedEvent>>> {
        let py = slf.py();
        loop {
            // What a handler raises must not take the place of an event that was taken.
            py.check_signals()?;
            if slf.get().closed() {
                return Ok(None);
            }
            if let Some(taken) = slf.get().take(py) {
                return Ok(Some(taken));
            }
            if !slf.call_method0(MORE.get(py)?)?.is_truthy()? {
                return Ok(None);
            }
        }
    }
}
