//! What can be asked, and what is answered.

use super::recorded::Recorded;

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// It may.
    #[default]
    Blocking,
    /// It may not: it answers [`crate::Error::WouldBlock`] instead.
    Inline,
}

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
    pub effort: Effort,
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
            effort: Effort::Blocking,
        }
    }
}

/// Which events of the log are wanted; all conditions that are given must hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// This stream.
    pub stream: Option<&'a str>,
    /// Streams whose names begin with these bytes.
    pub prefix: Option<&'a str>,
    /// Streams of this category.
    pub category: Option<&'a str>,
    /// Events of these types.
    pub types: Option<&'a [&'a str]>,
    /// No streams whose names begin with `$`.
    pub hides_system: bool,
}

/// A [`Filter`] that owns its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedFilter {
    /// As [`Filter::stream`].
    pub stream: Option<String>,
    /// As [`Filter::prefix`].
    pub prefix: Option<String>,
    /// As [`Filter::category`].
    pub category: Option<String>,
    /// As [`Filter::types`].
    pub types: Option<Vec<String>>,
    /// As [`Filter::hides_system`].
    pub hides_system: bool,
}

impl OwnedFilter {
    /// Lends the filter to a read.
    pub fn lend<T>(&self, act: impl FnOnce(Filter<'_>) -> T) -> T {
        let types: Option<Vec<&str>> = self
            .types
            .as_ref()
            .map(|types| types.iter().map(String::as_str).collect());
        act(Filter {
            types: types.as_deref(),
            ..self.of_streams()
        })
    }

    /// Whether it names streams or types, so that most events don't concern it.
    pub(crate) fn is_selective(&self) -> bool {
        self.stream.is_some()
            || self.prefix.is_some()
            || self.category.is_some()
            || self.types.is_some()
    }

    /// Whether events of a stream and a type match.
    pub(crate) fn matches(&self, stream: &str, event_type: &str) -> bool {
        self.of_streams().wants_stream(stream)
            && self
                .types
                .as_ref()
                .is_none_or(|types| types.iter().any(|wanted| wanted == event_type))
    }

    fn of_streams(&self) -> Filter<'_> {
        Filter {
            stream: self.stream.as_deref(),
            prefix: self.prefix.as_deref(),
            category: self.category.as_deref(),
            types: None,
            hides_system: self.hides_system,
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
    pub effort: Effort,
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
            effort: Effort::Blocking,
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
    pub effort: Effort,
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
