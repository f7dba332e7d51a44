//! From an append to an acknowledged commit.
//!
//! * `prepare`: everything that needs no lock, in the caller's thread.
//! * `judge`: expectations and keys against one state; no I/O.
//! * `plan`: the group's frames, sealed one after the other.
//! * `committer`: the write phase. `sync`: the sync phase. `background`: the threads.
//! * `request`: what a caller waits on.

mod background;
mod committer;
mod judge;
mod plan;
mod prepare;
mod request;
mod sync;

use std::sync::Arc;

use crate::error::Result;
use crate::index::FrameEntry;
use crate::log::Segment;

pub(crate) use committer::{Committer, Opening};
pub(crate) use prepare::content_digest;
pub use prepare::{Append, Appended, EventInput, Expectation, Prepared, prepare};
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
