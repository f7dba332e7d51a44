//! The request and the result of an append, and the digest of its content.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

/// The version that an append expects a stream or a category to have. The version of a category is
/// the number of its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Any version.
    Any,
    /// At least version 1: the stream has events, or the category has streams.
    Exists,
    /// Version 0: the stream has no events, or the category has no streams.
    NoStream,
    /// Exactly this version.
    Exact(u64),
}

impl Expectation {
    /// Whether a stream or a category of this version meets the expectation.
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
    /// A UUID in network order; if there is none, the engine generates a `UUIDv7`.
    pub event_id: Option<[u8; 16]>,
    /// The caller's metadata, which the engine doesn't interpret. It is part of the content that an
    /// idempotency key identifies.
    pub metadata: &'a [u8],
    /// Metadata that a library adds. It is stored after the caller's, and is not part of the
    /// content that an idempotency key identifies.
    pub library_metadata: &'a [u8],
    /// The body.
    pub data: &'a [u8],
    /// What an idempotency key identifies in place of the body. A caller that encrypts a body passes
    /// the plain body here, because the same body encrypted again has other bytes. It isn't stored.
    pub content: Option<&'a [u8]>,
}

/// One append, borrowed from the caller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Append<'a> {
    /// The events, in order.
    pub events: &'a [EventInput<'a>],
    /// The expected versions of streams. Each stream may be listed once.
    pub expectations: &'a [(&'a str, Expectation)],
    /// The expected versions of categories. Each category may be listed once.
    pub category_expectations: &'a [(&'a str, Expectation)],
    /// A key under which the result is stored, for as long as the log exists.
    pub idempotency_key: Option<&'a str>,
    /// The content that the key identifies. `None` means the events and expectations.
    pub content: Option<&'a [u8]>,
}

/// The result of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Position of the first event; `None` without events.
    pub first_position: Option<u64>,
    /// Position of the last event; `None` without events.
    pub last_position: Option<u64>,
    /// The new version of each written stream.
    pub versions: Vec<(Box<str>, u64)>,
    /// Whether this is the result of an earlier append with the same key.
    pub replayed: bool,
}

/// Return the digest of the content that the caller passes for an idempotency key.
pub(crate) fn content_digest(content: &[u8]) -> u128 {
    let mut hasher = Xxh3::with_seed(1);
    hasher.update(content);
    hasher.digest128()
}

/// Return the digest of an append for which the caller passes no content. Two appends with one key
/// count as the same if their digests are equal. So the digest covers the ordered events and the
/// expectations, and leaves out ids, times and the library's metadata. It includes the lengths of
/// all fields: otherwise bytes could move from one field to the next without a change of the
/// digest.
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
        part(event.content.unwrap_or(event.data));
    }
    for (label, expectations) in [
        (&b"expects"[..], append.expectations),
        (&b"expects category"[..], append.category_expectations),
    ] {
        let mut expectations: Vec<_> = expectations
            .iter()
            .filter(|(_, e)| *e != Expectation::Any)
            .collect();
        expectations.sort_unstable_by_key(|(name, _)| *name);
        for (name, expectation) in expectations {
            part(label);
            part(name.as_bytes());
            part(expectation.to_string().as_bytes());
        }
    }
    hasher.digest128()
}
