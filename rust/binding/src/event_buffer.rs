//! `EventBuffer`: the cursor of a subscription, and the events that were read after the cursor.

use eventbraid_engine::mutex::Mutex;
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

/// A position in the log, and the events that were read after it.
///
/// Taking an event and adding a page are one step each: neither another thread nor an exception of
/// a signal handler can interrupt them. Iteration takes events, and calls `_more` when there are
/// none.
#[pyclass(frozen, subclass, module = "eventbraid._native")]
pub(crate) struct EventBuffer {
    closed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// The position up to which every matching event was taken.
    after: u64,
    /// The position up to which every matching event was read.
    fetched: u64,
    /// The maximum number of events of the next page.
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

    /// The position up to which every matching event was taken.
    #[getter]
    fn _after(&self) -> u64 {
        self.state.lock().after
    }

    /// The position up to which every matching event was read.
    #[getter]
    fn _fetched(&self) -> u64 {
        self.state.lock().fetched
    }

    /// The maximum number of events of the next page.
    #[getter]
    fn _size(&self) -> usize {
        self.state.lock().size
    }

    /// Whether there are events to take.
    #[getter]
    fn _has_unread(&self) -> bool {
        !self.state.lock().unread.is_empty()
    }

    /// Whether iteration has ended.
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

    /// Add the page that was read after `_fetched`.
    ///
    /// Returns:
    ///     Whether the page has no event and ends at the head, so that the caller has to wait.
    fn _extend(&self, py: Python<'_>, page: &Page) -> PyResult<bool> {
        let events = page.events(py);
        let read: Vec<Py<RecordedEvent>> = events.extract()?;
        let (is_empty, more) = (read.is_empty(), page.more());
        let mut state = self.state.lock();
        state.unread.extend(read);
        // `_pass` may have moved `fetched` beyond the page meanwhile, past events that don't match.
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

    /// Record that no event up to a position matches.
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
            // Signals are checked before an event is taken. The exception of a signal handler must
            // not replace an event that was already taken, because that event would be skipped.
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
