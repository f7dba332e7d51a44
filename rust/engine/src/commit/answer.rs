//! A write batch after its write phase: the answers, and what they wait for.

use std::io;

use super::request::Request;
use crate::append::Appended;
use crate::error::{Error, Result};

/// The answer to one append, once what it was judged against is durable.
#[derive(Debug)]
pub(super) enum Answer {
    /// Written at the tail.
    Written(Appended),
    /// Written earlier, under the same key, and perhaps not durable yet.
    Replayed(Appended),
    /// Nothing written.
    Unwritten(Result<Appended>),
    /// The key belongs to the durable frame at this address.
    Known(u64),
}

/// A write batch after its write phase.
pub(super) struct WriteBatch {
    /// Every answer waits until this address is durable: also that of a conflict, a replay or
    /// a check, because the state that it reports may be undone by a loss of power until then.
    pub(super) judged_against: u64,
    pub(super) answers: Vec<(Request, Answer)>,
}

impl WriteBatch {
    /// Refuses all of the requests; nothing of them is written.
    pub(super) fn refused(requests: Vec<Request>, error: &Error) -> Self {
        let refuse = |request| (request, Answer::Unwritten(Err(error.clone())));
        Self {
            judged_against: 0,
            answers: requests.into_iter().map(refuse).collect(),
        }
    }
}

/// Whether a write was refused rather than failed. It may be refused to this process alone, and
/// the zeros that would undo it are then refused, too.
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
