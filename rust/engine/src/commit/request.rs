//! What a caller waits on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lock::{Condvar, Mutex};

use super::prepare::Prepared;
use crate::append::Appended;
use crate::error::{Error, Result};

/// Called once with the answer.
pub(crate) type Done = Box<dyn FnOnce(Result<Appended>) + Send>;

/// A queued append. It is answered exactly once: should the engine drop it unanswered, the
/// caller still hears, and hears the truth, that the outcome isn't known.
pub(crate) struct Request {
    pub(crate) prepared: Prepared,
    /// It has waited for the end of a reservation, and waits for no further one.
    pub(crate) was_deferred: bool,
    done: Option<Done>,
}

impl Request {
    pub(crate) fn new(prepared: Prepared, done: Done) -> Self {
        Self {
            prepared,
            was_deferred: false,
            done: Some(done),
        }
    }

    pub(crate) fn answer(mut self, result: Result<Appended>) {
        self.call(result);
    }

    /// A panic in the callback is its owner's, whose hook has told of it, and must not end
    /// the thread that commits for everybody.
    fn call(&mut self, result: Result<Appended>) {
        if let Some(done) = self.done.take() {
            let _told_by_the_panic_hook = catch_unwind(AssertUnwindSafe(|| done(result)));
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let reason = "the committing thread ended before it answered".to_owned();
        self.call(Err(Error::OutcomeUnknown { reason }));
    }
}

/// An append under way, to be waited for in slices.
#[derive(Clone, Debug, Default)]
pub struct Ticket {
    slot: Arc<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    result: Mutex<Option<Result<Appended>>>,
    answered: Condvar,
}

impl Ticket {
    pub(crate) fn new() -> (Self, Done) {
        let ticket = Self::default();
        let slot = Arc::clone(&ticket.slot);
        let done = move |result| {
            *slot.result.lock() = Some(result);
            slot.answered.notify_all();
        };
        (ticket, Box::new(done))
    }

    /// Waits for the answer, at most this long. The first `Some` takes it.
    pub fn wait(&self, timeout: Duration) -> Option<Result<Appended>> {
        let deadline = Instant::now().checked_add(timeout);
        let mut result = self.slot.result.lock();
        while result.is_none() {
            let Some(deadline) = deadline else {
                self.slot.answered.wait(&mut result);
                continue;
            };
            if self
                .slot
                .answered
                .wait_until(&mut result, deadline)
                .timed_out()
            {
                break;
            }
        }
        result.take()
    }
}
