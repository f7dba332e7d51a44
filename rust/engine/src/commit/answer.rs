//! A write batch after its write phase: its answers, and the log address that must be durable
//! before the answers are sent.

use std::io;

use super::request::Request;
use crate::append::Appended;
use crate::error::{Error, Result};

/// The answer to one append. The answer is sent once the state that the append was validated
/// against is durable.
#[derive(Debug)]
pub(super) enum Answer {
    /// The append was written at the tail of the log.
    Written(Appended),
    /// Nothing was written: an earlier append with the same key was written, and may not be durable
    /// yet.
    Replayed(Appended),
    /// Nothing was written, and this is the result: success for a check that passed or a sync
    /// marker that is not needed, an error for a refused append.
    Unwritten(Result<Appended>),
    /// Nothing was written: the key belongs to the durable frame at this address.
    Durable(u64),
}

/// A write batch after its write phase.
pub(super) struct WriteBatch {
    /// No answer is sent before the log is durable up to this address. That includes the answers to
    /// conflicts, replays and checks, because until then a loss of power could undo the state that
    /// they report.
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
}

/// Whether the kernel refused a write, for example because of a quota or a full disk, as opposed to
/// a failure of the disk. A refusal may concern this process alone, and would also apply to the
/// zeros of a rollback.
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
