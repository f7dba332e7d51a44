//! The parameters of reads, and their results.
//!
//! A read returns a batch of events and the cursor for the next one.

use super::recorded_event::Recorded;
use crate::filter::Filter;
use crate::options::ReadMode;

/// The parameters of a read of one stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamQuery<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// Only events after this version.
    pub after: u64,
    /// Only events before this version.
    pub before: Option<u64>,
    /// The maximum number of events in the batch.
    pub limit: usize,
    /// The approximate maximum number of bytes that the events of the batch keep alive. A batch has
    /// at least one event, however large the event is.
    pub max_bytes: usize,
    /// Whether the newest events come first.
    pub backward: bool,
    /// Only events up to this position; `None` for the head.
    pub at: Option<u64>,
    /// Whether the read may wait for the disk.
    pub mode: ReadMode,
}

impl<'a> StreamQuery<'a> {
    /// Read a whole stream in one batch.
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

/// The parameters of a read of the log.
#[derive(Clone, Copy, Debug)]
pub struct LogQuery<'a> {
    /// Only events after this position.
    pub after: u64,
    /// Only events before this position.
    pub before: Option<u64>,
    /// The maximum number of events in the batch.
    pub limit: usize,
    /// The approximate maximum number of bytes that the events of the batch keep alive. A batch has
    /// at least one event, however large the event is.
    pub max_bytes: usize,
    /// Whether the newest events come first.
    pub backward: bool,
    /// Only events up to this position; `None` for the head.
    pub at: Option<u64>,
    /// The events that are selected.
    pub filter: Filter<'a>,
    /// Whether the read may wait for the disk.
    pub mode: ReadMode,
}

impl LogQuery<'_> {
    /// Read the whole log, in batches as large as one read allows. While `more` is true, repeat the
    /// read after `next`.
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

/// The result of a read: a batch of events.
#[derive(Clone, Debug)]
pub struct ReadBatch {
    /// The events, in the order of the query.
    pub events: Vec<Recorded>,
    /// The cursor for the next batch: the value of `after` for a forward read, of `before` for a
    /// backward one. A version for a stream, a position for the log.
    pub next: u64,
    /// Whether there may be more events. A batch of a filtered log may be empty without being the
    /// last.
    pub more: bool,
    /// The position to which the read is pinned.
    pub at: u64,
}

/// The parameters of a read of several streams as of one position.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotQuery<'a> {
    /// The streams, each with the version after which its events are returned.
    pub streams: &'a [(&'a str, u64)],
    /// The position; `None` for the head.
    pub at: Option<u64>,
    /// The maximum number of events. They are taken stream by stream, in the order of `streams`, so
    /// the snapshot has the first events of each stream, possibly none of the last streams. Compare
    /// them with [`Snapshot::versions`] to find out whether there are more, and read these `at` the
    /// position of the snapshot.
    pub limit: usize,
    /// The approximate maximum number of bytes that the events keep alive. A snapshot has at least
    /// one event if there is one, however large the event is.
    pub max_bytes: usize,
    /// Whether the read may wait for the disk.
    pub mode: ReadMode,
}

impl<'a> SnapshotQuery<'a> {
    /// Read all events of streams as of the head.
    pub fn all(streams: &'a [(&'a str, u64)]) -> Self {
        Self {
            streams,
            at: None,
            limit: usize::MAX,
            max_bytes: usize::MAX,
            mode: ReadMode::Blocking,
        }
    }
}

/// Several streams as of one position.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The position.
    pub position: u64,
    /// Each stream's version at that position, in the order of the query.
    pub versions: Vec<u64>,
    /// The events in global order. If the query has a limit, there may be more.
    pub events: Vec<Recorded>,
}

/// The parameters of a read of the streams of a category.
#[derive(Clone, Copy, Debug)]
pub struct CategoryQuery<'a> {
    /// The category.
    pub category: &'a str,
    /// Leave out the first streams, in the order of their first events.
    pub after: u64,
    /// The maximum number of names.
    pub limit: usize,
    /// The position as of which the category is read; `None` for the head.
    pub at: Option<u64>,
    /// Whether the read may wait for the disk.
    pub mode: ReadMode,
}

/// The streams of a category as of one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CategoryStreams {
    /// The position.
    pub position: u64,
    /// The version of the category as of the position: the number of its streams.
    pub version: u64,
    /// The names of the streams after the first `after` ones, in the order of their first events.
    pub names: Vec<Box<str>>,
}
