//! What one durable frame adds to the index.

/// One frame: its place in the log, its events by stream, and its idempotency key.
#[derive(Debug, Default)]
pub(crate) struct FrameEntry {
    pub(crate) address: u64,
    pub(crate) length: u64,
    pub(crate) first_position: u64,
    pub(crate) streams: Vec<StreamEntry>,
    /// The ordinals of the events within the frame, grouped by stream in the order of
    /// `streams`: the first `streams[0].count` belong to the first stream, and so on.
    pub(crate) ordinals: Vec<u32>,
    /// The hashes of the categories of the streams that the frame creates, in the order of these
    /// streams. A frame creates the streams whose version before it is 0.
    pub(crate) created_categories: CategoryHashes,
    /// The hash of the idempotency key.
    pub(crate) key_hash: Option<u128>,
}

/// The hashes of categories, behind a pointer, because most frames create no stream. With a list in
/// place of the pointer, a written frame has more than 128 bytes, and the compiler then moves it by
/// calls of `memcpy`, which cost each commit 120 instructions.
#[derive(Debug, Default)]
pub(crate) struct CategoryHashes(Option<Box<HashList>>);

#[derive(Debug, Default)]
struct HashList(Vec<u128>);

impl CategoryHashes {
    pub(crate) fn as_slice(&self) -> &[u128] {
        self.0.as_ref().map_or(&[], |list| &list.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Replace the hashes. A list that has been allocated is used again.
    pub(crate) fn replace(&mut self, hashes: impl IntoIterator<Item = u128>) {
        let mut hashes = hashes.into_iter();
        if let Some(list) = &mut self.0 {
            list.0.clear();
            list.0.extend(hashes);
        } else if let Some(first) = hashes.next() {
            let list = self.0.insert(Box::default());
            list.0.push(first);
            list.0.extend(hashes);
        }
    }
}

impl FromIterator<u128> for CategoryHashes {
    fn from_iter<I: IntoIterator<Item = u128>>(hashes: I) -> Self {
        let mut list = Self::default();
        list.replace(hashes);
        list
    }
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
    /// The number of events.
    pub(crate) fn events(&self) -> u64 {
        self.ordinals.len() as u64
    }

    /// The address after the frame.
    pub(crate) fn end(&self) -> u64 {
        self.address + self.length
    }
}
