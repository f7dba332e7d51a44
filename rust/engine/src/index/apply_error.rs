//! Why the index refuses a frame.

use std::fmt;

use crate::error::Error;

/// A limit of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IndexLimit {
    /// The bytes that the postings of all streams take.
    Postings,
    /// The number of idempotency keys.
    IdempotencyKeys,
    /// The number of streams.
    Streams,
}

impl IndexLimit {
    /// The error for a commit that would exceed the limit.
    pub(crate) fn error(self) -> Error {
        let (what, limit) = match self {
            Self::Postings => ("the bytes of postings in the index of a store", 16 << 30),
            Self::IdempotencyKeys => ("the idempotency keys of a store", u64::from(u32::MAX)),
            Self::Streams => ("the streams of a store", u64::from(u32::MAX)),
        };
        Error::LimitExceeded {
            what,
            actual: limit + 1,
            limit,
        }
    }
}

/// Why a frame can't be added. A part of the frame may be in the index already, so the index must
/// not be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApplyError {
    /// A limit is reached.
    Full(IndexLimit),
    /// The frame continues a stream at another version than the stream has.
    VersionMismatch {
        /// The version at which the frame continues the stream.
        base: u64,
        /// The version that the stream has.
        actual: u64,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(limit) => write!(f, "{}", limit.error()),
            Self::VersionMismatch { base, actual } => write!(
                f,
                "the frame continues a stream at version {base}, but the stream has version \
                 {actual}"
            ),
        }
    }
}

impl From<IndexLimit> for ApplyError {
    fn from(limit: IndexLimit) -> Self {
        Self::Full(limit)
    }
}
