//! From an append to an acknowledged commit.
//!
//! * `prepare`: everything that needs no lock, in the caller's thread.
//! * `judge`: expectations and keys against one state; no I/O.
//! * `plan`: the group's frames, sealed one after the other.
//! * `committer`: the write phase. `sync`: the sync phase. `background`: the threads.
//! * `catch_up`: what other processes have written. `watcher`: the thread that hears of it.
//! * `request`: what a caller waits on. `clock`: the time of a commit.

mod background;
mod catch_up;
mod clock;
mod committer;
mod judge;
mod plan;
mod prepare;
mod request;
mod sync;
mod watcher;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::append::Appended;
use crate::coord::Mark;
use crate::error::Result;
use crate::index::FrameEntry;
use crate::log::Segment;

pub(crate) use committer::{Committer, StartingPoint};
pub use prepare::{Prepared, prepare};
pub use request::Ticket;
pub(crate) use request::{Done, Request};

/// The end of the log.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    pub(crate) address: u64,
    pub(crate) next_position: u64,
    pub(crate) chain: u64,
}

/// What this process knows of the log.
#[derive(Debug)]
struct Known {
    /// The end of what is written.
    tail: Tail,
    /// The end of the last frame: the tail, but for a segment that has none yet.
    end: u64,
    commit_time: u64,
    /// Whether the last frame is the engine's own and covers all before it.
    is_marked: bool,
    /// Written frames that the index does not have yet, in the order of the log.
    unsynced: VecDeque<Written>,
}

impl Known {
    fn mark(&self) -> Mark {
        let Tail {
            segment,
            address,
            next_position,
            chain,
        } = &self.tail;
        Mark {
            address: *address,
            end: self.end,
            next_position: *next_position,
            chain: *chain,
            ordinal: segment.entry.ordinal,
            commit_time: self.commit_time,
            is_marked: self.is_marked,
        }
    }
}

/// A frame that is written, and what its durability is to be told with.
#[derive(Debug)]
struct Written {
    entry: FrameEntry,
    /// The chain at its end.
    chain: u64,
}

/// What a group says of one of its requests, once durable.
#[derive(Debug)]
enum Answer {
    /// Written at the tail.
    Written(Appended),
    /// Written earlier, under the same key, and perhaps not durable yet.
    Replayed(Appended),
    /// Nothing written.
    Unwritten(Result<Appended>),
    /// The key belongs to the durable frame at this address.
    Known(u64),
}

/// Whether a write was refused, and not failed: perhaps to this process alone, whose zeros
/// would be refused as well.
fn is_refusal(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::OutOfMemory
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge
            | std::io::ErrorKind::ReadOnlyFilesystem
    )
}
