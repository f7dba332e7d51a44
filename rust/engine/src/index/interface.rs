//! The interface of the index to the rest of the engine.

use std::fmt::Debug;

use super::apply_error::{ApplyError, IndexLimit};
use super::chunk_table::ChunkTable;
use super::frame_entry::FrameEntry;

/// The durable state of a store, by stream, category and idempotency key. Streams, categories and
/// keys are given as the hashes of their names.
pub(crate) trait Index: Debug + Send + Sync {
    /// Add a frame. Frames must be added in the order of the log.
    fn apply(&mut self, frame: &FrameEntry) -> Result<(), ApplyError>;
    /// Return the limit that is nearly reached, if any. A commit that counts against this limit
    /// must be refused before it is written, because every commit in the log has to be indexed.
    fn nearly_full(&self) -> Option<IndexLimit>;
    /// Return the last durable position.
    fn head(&self) -> u64;
    /// Return the number of streams that have events.
    fn streams(&self) -> u64;
    /// Return the number of idempotency keys.
    fn idempotency_keys(&self) -> u64;
    /// Return the stream's version.
    fn version(&self, stream_hash: u128) -> u64;
    /// Return the version that the stream had at a position.
    fn version_at(&self, stream_hash: u128, position: u64) -> u64;
    /// Append to `into` the positions of the stream's events of versions `first..=last`, ascending.
    fn positions(&self, stream_hash: u128, first: u64, last: u64, into: &mut Vec<u64>);
    /// Return the version of a category: the number of its streams.
    fn category_version(&self, category_hash: u128) -> u64;
    /// Return the version that the category had at a position.
    fn category_version_at(&self, category_hash: u128, position: u64) -> u64;
    /// Append to `into` the positions of the first events of the category's streams number
    /// `first..=last`, counted from 1 and ordered by these positions.
    fn category_positions(&self, category_hash: u128, first: u64, last: u64, into: &mut Vec<u64>);
    /// Return the address of the frame that was appended with an idempotency key.
    fn keyed_frame(&self, key_hash: u128) -> Option<u64>;
    /// Append to `into` the positions of the first events of at most `limit` streams, beginning
    /// with stream number `from`. Streams are numbered by the order of their first events.
    fn first_positions(&self, from: u64, limit: usize, into: &mut Vec<u64>);
    /// Return the table of the log's chunks.
    fn chunks(&self) -> &ChunkTable;
}
