//! What this session knows of the written log.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::coord::LogPoint;
use crate::index::FrameEntry;
use crate::log::Segment;

/// The end of the log.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    pub(crate) address: u64,
    pub(crate) next_position: u64,
    pub(crate) chain: u64,
}

/// The written log as far as this session knows it.
#[derive(Debug)]
pub(super) struct Known {
    /// The end of what is written.
    pub(super) tail: Tail,
    /// The end of the last frame: the tail, but for a segment that has none yet.
    pub(super) end: u64,
    pub(super) commit_time: u64,
    /// Whether the last frame is the engine's own and covers all before it.
    pub(super) ends_in_marker: bool,
    /// Written frames that the index does not have yet, in the order of the log.
    pub(super) unsynced: VecDeque<Written>,
}

impl Known {
    pub(super) fn end_point(&self) -> LogPoint {
        let Tail {
            segment,
            address,
            next_position,
            chain,
        } = &self.tail;
        LogPoint {
            address: *address,
            end: self.end,
            next_position: *next_position,
            chain: *chain,
            ordinal: segment.entry.ordinal,
            commit_time: self.commit_time,
            ends_in_marker: self.ends_in_marker,
        }
    }
}

/// A written frame that the index does not have yet.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) entry: FrameEntry,
    /// The chain at its end.
    pub(super) chain: u64,
}
