//! Requests, and the tickets that their callers wait on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mutex::{Condvar, Mutex};

use super::prepare::Prepared;
use crate::append::Appended;
use crate::error::{Error, Result};

/// Called exactly once with the answer.
pub(crate) type AnswerCallback = Box<dyn FnOnce(Result<Appended>) + Send>;

/// A queued append. It is answered exactly once: if the engine drops it unanswered, the caller
/// receives [`Error::OutcomeUnknown`].
pub(crate) struct Request {
    pub(crate) prepared: Prepared,
    /// Whether the append has waited for the end of a reservation. An append does not wait for a
    /// second one.
    pub(crate) was_deferred: bool,
    done: Option<AnswerCallback>,
}

impl Request {
    pub(crate) fn new(prepared: Prepared, done: AnswerCallback) -> Self {
        Self {
            prepared,
            was_deferred: false,
            done: Some(done),
        }
    }

    pub(crate) fn answer(mut self, result: Result<Appended>) {
        self.call(result);
    }

    /// Call the callback and catch its panic. A panic must not end this thread, which commits the
    /// appends of all callers. The panic hook has already reported it.
    fn call(&mut self, result: Result<Appended>) {
        if let Some(done) = self.done.take() {
            // Before the callback: its caller may begin an append that builds on this one.
            if let Some(pending) = &self.prepared.pending {
                match &result {
                    Ok(_) => pending.note_durable(),
                    Err(_) => pending.refuse(),
                }
            }
            let _reported_by_the_panic_hook = catch_unwind(AssertUnwindSafe(|| done(result)));
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // Build the error only for a request that was not answered, which is rare: its text costs
        // an allocation, which is 200 of a commit's 11,500 instructions.
        if self.done.is_some() {
            let reason = "the committing thread ended before it answered".to_owned();
            self.call(Err(Error::OutcomeUnknown { reason }));
        }
    }
}

/// An append in progress. The caller may call [`Ticket::wait`] several times.
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
    pub(crate) fn new() -> (Self, AnswerCallback) {
        let ticket = Self::default();
        let slot = Arc::clone(&ticket.slot);
        let done = move |result| {
            *slot.result.lock() = Some(result);
            slot.answered.notify_all();
        };
        (ticket, Box::new(done))
    }

    /// Wait for the answer, for at most `timeout`. The answer is returned only once.
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
