//! What can be asked, and what is answered.

use super::recorded_event::Recorded;
use crate::filter::Filter;
use crate::options::ReadMode;

/// A page of one stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamQuery<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// Only events after this version.
    pub after: u64,
    /// Only events before this version.
    pub before: Option<u64>,
    /// Events in the page, at most.
    pub limit: usize,
    /// Bytes that the page's events keep alive, about; at least one event is answered.
    pub max_bytes: usize,
    /// Newest first.
    pub backward: bool,
    /// Only events up to this position; the head when there is none.
    pub at: Option<u64>,
    /// Whether the read may wait for the disk.
    pub mode: ReadMode,
}

impl<'a> StreamQuery<'a> {
    /// All of a stream, in one page.
    pub fn all(stream: &'a str) -> Self {
        Self {
            stream,
            after: 0,
            before: None,
            limit: usize::MAX,
            max_bytes: usize::MAX,
            backward: false,
            at: None,
            mode: ReadMode::Blocking,
        }
    }
}

/// A page of the log.
#[derive(Clone, Copy, Debug)]
pub struct LogQuery<'a> {
    /// Only events after this position.
    pub after: u64,
    /// Only events before this position.
    pub before: Option<u64>,
    /// Events in the page, at most.
    pub limit: usize,
    /// Bytes that the page's events keep alive, about; at least one event is answered.
    pub max_bytes: usize,
    /// Newest first.
    pub backward: bool,
    /// Only events up to this position; the head when there is none.
    pub at: Option<u64>,
    /// Which events.
    pub filter: Filter<'a>,
    /// Whether the read may wait for the disk.
    pub mode: ReadMode,
}

impl LogQuery<'_> {
    /// All of the log, in pages as large as one read allows: go on while `more`.
    pub fn all() -> Self {
        Self {
            after: 0,
            before: None,
            limit: usize::MAX,
            max_bytes: usize::MAX,
            backward: false,
            at: None,
            filter: Filter::default(),
            mode: ReadMode::Blocking,
        }
    }
}

/// A page of events.
#[derive(Clone, Debug)]
pub struct Page {
    /// The events, in the order asked for.
    pub events: Vec<Recorded>,
    /// The cursor for the next page: `after` reading forward, `before` reading backward; a
    /// version for a stream, a position for the log.
    pub next: u64,
    /// Whether there may be more. A page of a filtered log can be empty and yet not the last.
    pub more: bool,
    /// The position that the read is pinned to.
    pub at: u64,
}

/// Several streams as of one position.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotQuery<'a> {
    /// The streams, each with the version after which its events are wanted.
    pub streams: &'a [(&'a str, u64)],
    /// The position; the head when there is none.
    pub at: Option<u64>,
    /// Whether the read may wait for the disk.
    pub mode: ReadMode,
}

/// Several streams as of one position.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The position.
    pub position: u64,
    /// Each stream's version as of it, in the order asked for.
    pub versions: Vec<u64>,
    /// The events in global order.
    pub events: Vec<Recorded>,
}
