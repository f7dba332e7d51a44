//! What one durable frame adds to the index.

/// One frame: its place in the log, its events by stream, and its idempotency key.
#[derive(Debug, Default)]
pub(crate) struct FrameEntry {
    pub(crate) address: u64,
    pub(crate) length: u64,
    pub(crate) first_position: u64,
    pub(crate) events: u64,
    pub(crate) streams: Vec<StreamEntry>,
    /// The ordinals of the events within the frame, grouped by stream in the order of
    /// `streams`: the first `streams[0].count` belong to the first stream, and so on.
    pub(crate) ordinals: Vec<u32>,
    /// The hashes of the categories of the streams that the frame creates, in the order of these
    /// streams. A frame creates the streams whose version before it is 0.
    pub(crate) created_categories: Vec<u128>,
    /// The hash of the idempotency key.
    pub(crate) key_hash: Option<u128>,
}

/// The events of one stream in a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamEntry {
    pub(crate) stream_hash: u128,
    /// The stream's version before the frame.
    pub(crate) base_version: u64,
    pub(crate) count: u32,
}

impl StreamEntry {
    /// Whether the frame has the first event of the stream.
    pub(crate) fn is_created(&self) -> bool {
        self.base_version == 0 && self.count > 0
    }
}

impl FrameEntry {
    /// The address after the frame.
    pub(crate) fn end(&self) -> u64 {
        self.address + self.length
    }
}
