//! The answers to the appends of a write batch. They are sent once the log is durable up to the
//! address that they depend on.

use super::prepare::Prepared;
use super::request::Request;
use crate::append::Appended;
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::options::ReadMode;

/// The answer to one append. The answer is sent once the state that the append was validated
/// against is durable.
#[derive(Debug)]
pub(super) enum Answer {
    /// The append was written at the tail of the log.
    Written(Appended),
    /// Nothing was written: an earlier append with the same key was written, and may not be durable
    /// yet.
    Replayed(Appended),
    /// Nothing was written. The field is the result: an error if the append was refused, and success
    /// if it was a check that passed, or a sync marker that was not needed.
    Unwritten(Result<Appended>),
    /// Nothing was written: the key belongs to the durable frame at this address.
    Durable(u64),
}

/// A write batch after its write phase.
pub(super) struct WriteBatch {
    /// The log must be durable up to this address before any answer is sent. This applies to
    /// conflicts, replays and checks as well: until then, a loss of power could undo the state that
    /// these answers report.
    pub(super) validated_against: u64,
    pub(super) answers: Vec<(Request, Answer)>,
}

impl WriteBatch {
    /// Build a batch whose requests are all refused with `error`. None of them was written.
    pub(super) fn refused(requests: Vec<Request>, error: &Error) -> Self {
        let refuse = |request| (request, Answer::Unwritten(Err(error.clone())));
        Self {
            validated_against: 0,
            answers: requests.into_iter().map(refuse).collect(),
        }
    }

    /// Answer the appends of the batch. `durable` is the outcome of the sync that the answers
    /// depend on. The caller must hold no lock: a callback may call the store, which acquires the
    /// same locks.
    pub(super) fn answer(self, durable: &Result<()>, log: &LiveLog) {
        log.deliver(ReadMode::Blocking);
        for (request, answer) in self.answers {
            let result = match (durable, answer) {
                (Ok(()), Answer::Written(appended) | Answer::Replayed(appended)) => Ok(appended),
                (Err(e), Answer::Written(_) | Answer::Replayed(_)) => Err(Error::OutcomeUnknown {
                    reason: e.to_string(),
                }),
                (_, Answer::Durable(address)) => replay(log, &request.prepared, address),
                (Ok(()), Answer::Unwritten(result)) => result,
                (Err(e), Answer::Unwritten(_)) => Err(e.clone()),
            };
            request.answer(result);
        }
    }
}

/// Return the result of the durable commit at `address`, which has the same key as this append.
fn replay(log: &LiveLog, prepared: &Prepared, address: u64) -> Result<Appended> {
    let key = prepared.key.as_ref().ok_or(Error::Closed)?;
    log.counters.replays.add(1);
    log.committed_at(address, &key.text, Some(key.digest), ReadMode::Blocking)
}
