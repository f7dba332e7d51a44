//! One append: what is requested, and the answer to it.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

/// What an append demands of a stream's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    Any,
    /// At least one event.
    Exists,
    /// No event yet.
    NoStream,
    /// Exactly this many events.
    Exact(u64),
}

impl Expectation {
    pub(crate) fn holds(self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Exists => version > 0,
            Self::NoStream => version == 0,
            Self::Exact(expected) => version == expected,
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("at any version"),
            Self::Exists => f.write_str("to exist"),
            Self::NoStream => f.write_str("not to exist"),
            Self::Exact(version) => write!(f, "at version {version}"),
        }
    }
}

/// One event to append, borrowed from the caller.
#[derive(Clone, Copy, Debug)]
pub struct EventInput<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// The type's name.
    pub event_type: &'a str,
    /// A UUID in network order; where there is none, the engine makes one of version 7.
    pub event_id: Option<[u8; 16]>,
    /// The caller's metadata, opaque to the engine; part of a key's content.
    pub metadata: &'a [u8],
    /// Metadata that a library adds; stored after the caller's, not part of a key's content.
    pub library_metadata: &'a [u8],
    /// The body.
    pub data: &'a [u8],
}

/// One append, borrowed from the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Append<'a> {
    /// The events, in order.
    pub events: &'a [EventInput<'a>],
    /// The expected versions of streams; no stream twice.
    pub expectations: &'a [(&'a str, Expectation)],
    /// A key under which the result is kept as long as the log.
    pub idempotency_key: Option<&'a str>,
    /// The content that the key stands for, where that is not the events and expectations.
    pub content: Option<&'a [u8]>,
}

/// The answer to an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Position of the first event; `None` without events.
    pub first_position: Option<u64>,
    /// Position of the last event; `None` without events.
    pub last_position: Option<u64>,
    /// The new version of each written stream.
    pub versions: Vec<(Box<str>, u64)>,
    /// Whether the answer is that of an earlier append with the same key.
    pub replayed: bool,
}

/// The digest of the content that an idempotency key stands for, where the caller passes it.
pub(crate) fn content_digest(content: &[u8]) -> u128 {
    let mut hasher = Xxh3::with_seed(1);
    hasher.update(content);
    hasher.digest128()
}

/// The digest of an append, where the caller passes no content: of everything that makes two
/// appends under one key the same.
pub(crate) fn append_digest(append: &Append<'_>) -> u128 {
    let mut hasher = Xxh3::with_seed(0);
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(&(append.events.len() as u64).to_le_bytes());
    for event in append.events {
        part(event.stream.as_bytes());
        part(event.event_type.as_bytes());
        part(event.metadata);
        part(event.data);
    }
    let mut expectations: Vec<_> = append
        .expectations
        .iter()
        .filter(|(_, e)| *e != Expectation::Any)
        .collect();
    expectations.sort_unstable_by_key(|(name, _)| *name);
    for (name, expectation) in expectations {
        part(b"expects");
        part(name.as_bytes());
        part(expectation.to_string().as_bytes());
    }
    hasher.digest128()
}
