//! The written log, as far as this session has read or written it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::coord::LogPoint;
use crate::index::FrameEntry;
use crate::log::Segment;

/// The end of the log, where the next frame is written.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    pub(crate) address: u64,
    pub(crate) next_position: u64,
    pub(crate) chain: u64,
}

/// The written log, as far as this session has read or written it.
#[derive(Debug)]
pub(super) struct WrittenLog {
    /// The end of the written log.
    pub(super) tail: Tail,
    /// The end of the last frame. This differs from the tail if the segment of the tail has no
    /// frame yet.
    pub(super) end: u64,
    pub(super) commit_time: u64,
    /// Whether the last frame is a sync marker that covers all frames before it.
    pub(super) ends_in_marker: bool,
    /// Written frames that are not in the index yet, in log order. They are indexed once they are
    /// durable.
    pub(super) unsynced: VecDeque<WrittenFrame>,
}

impl WrittenLog {
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

/// A written frame that is not in the index yet.
#[derive(Debug)]
pub(super) struct WrittenFrame {
    pub(super) entry: FrameEntry,
    /// The hash chain after this frame.
    pub(super) chain: u64,
}
