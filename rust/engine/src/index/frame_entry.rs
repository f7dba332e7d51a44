//! What an index takes up, and the questions that it answers.

use std::fmt::{self, Debug};

use super::chunk_table::ChunkTable;
use crate::error::Error;

/// What one durable frame adds to the index.
#[derive(Debug, Default)]
pub(crate) struct FrameEntry {
    pub(crate) address: u64,
    pub(crate) length: u64,
    pub(crate) first_position: u64,
    pub(crate) events: u64,
    pub(crate) streams: Vec<StreamEntry>,
    /// For each stream in turn, the ordinals of its events in the frame.
    pub(crate) ordinals: Vec<u32>,
    /// Hash of the idempotency key.
    pub(crate) key: Option<u128>,
}

/// One stream's part of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamEntry {
    pub(crate) key: u128,
    pub(crate) base_version: u64,
    pub(crate) count: u32,
}

impl FrameEntry {
    pub(crate) fn end(&self) -> u64 {
        self.address + self.length
    }
}

/// What an index has no more room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Events,
    Keys,
    Streams,
}

impl Full {
    /// The error for whoever wants to add more.
    pub(crate) fn error(self) -> Error {
        let (what, limit) = match self {
            Self::Events => ("the bytes of postings in the index of a store", 16 << 30),
            Self::Keys => ("the idempotency keys of a store", u64::from(u32::MAX)),
            Self::Streams => ("the streams of a store", u64::from(u32::MAX)),
        };
        Error::LimitExceeded {
            what,
            actual: limit + 1,
            limit,
        }
    }
}

/// Why a frame can't be taken up. Part of it may have been: the index is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// There is no room.
    Full(Full),
    /// It continues a stream at a version that the stream is not at.
    Version {
        /// The version it continues at.
        base: u64,
        /// The version that the stream is at.
        actual: u64,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => write!(f, "{}", full.error()),
            Self::Version { base, actual } => write!(
                f,
                "the frame continues a stream at version {base}, which is at {actual}"
            ),
        }
    }
}

impl From<Full> for Unfit {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

/// The durable state, by stream and by key.
pub(crate) trait Index: Debug + Send + Sync {
    /// Adds a frame; frames come in the order of the log.
    fn apply(&mut self, frame: &FrameEntry) -> Result<(), Unfit>;
    /// What is nearly used up, so that nothing should be written that would need it.
    fn nearly_full(&self) -> Option<Full>;
    /// The last durable position.
    fn head(&self) -> u64;
    /// How many streams have events.
    fn streams(&self) -> u64;
    /// How many idempotency keys are known.
    fn keys(&self) -> u64;
    /// The stream's version.
    fn version(&self, stream: u128) -> u64;
    /// The stream's version as of a position.
    fn version_at(&self, stream: u128, position: u64) -> u64;
    /// The positions of the stream's events of versions `first..=last`, ascending.
    fn positions(&self, stream: u128, first: u64, last: u64, into: &mut Vec<u64>);
    /// The address of the frame that was appended under this key.
    fn keyed_frame(&self, key: u128) -> Option<u64>;
    /// Appends to `into` where streams begin: `limit` of them, from the `from`th on, in the
    /// order in which they began.
    fn first_positions(&self, from: u64, limit: usize, into: &mut Vec<u64>);
    /// The verified stretches of the log.
    fn chunks(&self) -> &ChunkTable;
}
