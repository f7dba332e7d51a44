//! A write batch after its write phase: its answers, and the address they wait for.

use std::io;

use super::request::Request;
use crate::append::Appended;
use crate::error::{Error, Result};

/// The answer to one append. It is sent once the state that it was validated against is durable.
#[derive(Debug)]
pub(super) enum Answer {
    /// Written at the tail.
    Written(Appended),
    /// Written by an earlier append with the same key, which may not be durable yet.
    Replayed(Appended),
    /// Nothing was written.
    Unwritten(Result<Appended>),
    /// The key belongs to the durable frame at this address.
    Durable(u64),
}

/// A write batch after its write phase.
pub(super) struct WriteBatch {
    /// Every answer waits until this address is durable. That includes conflicts, replays and
    /// checks: until then, a loss of power could undo the state that they report.
    pub(super) validated_against: u64,
    pub(super) answers: Vec<(Request, Answer)>,
}

impl WriteBatch {
    /// Refuse all requests. None of them is written.
    pub(super) fn refused(requests: Vec<Request>, error: &Error) -> Self {
        let refuse = |request| (request, Answer::Unwritten(Err(error.clone())));
        Self {
            validated_against: 0,
            answers: requests.into_iter().map(refuse).collect(),
        }
    }
}

/// Whether a write was refused rather than failed. A refusal, for example by a quota, may concern
/// this process alone, and would also refuse the zeros of a rollback.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::ReadOnlyFilesystem
    )
}
