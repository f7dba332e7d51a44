//! The index: stream → versions → positions → chunks of the log; idempotency key → frame.
//!
//! It owns no facts of its own: it is derived from the log, by a scan when a store is opened
//! and by one [`FrameEntry`] for each commit after that. Its invariants:
//!
//! * It contains durable commits only. Commits that are written but not yet synced are in the
//!   committer's overlay, so no reader can see an event that a power cut may take back.
//! * Frames are applied in the order of the log, so postings and chunks only grow at the end.
//! * No structure in it ever moves or copies its items when it grows: readers wait for the
//!   index's lock, and a table that doubles would make all of them wait.
//!
//! [`Index`] is the interface. [`MemoryIndex`], the only implementation, is guarded by the
//! `RwLock` in `live::LiveLog`: readers share it, the thread that publishes commits has it
//! exclusively. Nothing in this folder is synchronised by itself.
//!
//! | file | contents |
//! |---|---|
//! | `memory_index` | the implementation: streams, idempotency keys, chunks |
//! | `frame_entry` | what one frame adds to the index |
//! | `apply_error` | why a frame is refused, and which limit is reached |
//! | `postings` | the positions of one stream, delta-coded in a chain of blocks |
//! | `arena` | the memory of those blocks |
//! | `slot_table` | a hash table of items that never move |
//! | `paged_vec` | an array that grows without moving its items |
//! | `chunk_table` | from positions and addresses to the chunk of the log to load |

mod apply_error;
mod arena;
mod chunk_table;
mod frame_entry;
mod memory_index;
mod paged_vec;
mod postings;
mod slot_table;

use std::fmt::Debug;

pub(crate) use apply_error::{ApplyError, IndexLimit};
pub(crate) use chunk_table::{Chunk, ChunkTable};
pub(crate) use frame_entry::{FrameEntry, StreamEntry};
pub(crate) use memory_index::MemoryIndex;

/// The durable state of a store, by stream and by idempotency key. Streams and keys are given
/// as the hashes of their names.
pub(crate) trait Index: Debug + Send + Sync {
    /// Adds a frame. Frames must be added in the order of the log.
    fn apply(&mut self, frame: &FrameEntry) -> Result<(), ApplyError>;
    /// Returns the limit that is nearly reached, if any. A commit that would need more of it
    /// must be refused before it is written: once it is in the log, it has to be indexed.
    fn nearly_full(&self) -> Option<IndexLimit>;
    /// Returns the last durable position.
    fn head(&self) -> u64;
    /// Returns the number of streams that have events.
    fn streams(&self) -> u64;
    /// Returns the number of idempotency keys.
    fn idempotency_keys(&self) -> u64;
    /// Returns the stream's version.
    fn version(&self, stream_hash: u128) -> u64;
    /// Returns the version that the stream had at a position.
    fn version_at(&self, stream_hash: u128, position: u64) -> u64;
    /// Appends to `into` the positions of the stream's events of versions `first..=last`,
    /// ascending.
    fn positions(&self, stream_hash: u128, first: u64, last: u64, into: &mut Vec<u64>);
    /// Returns the address of the frame that was appended with an idempotency key.
    fn keyed_frame(&self, key_hash: u128) -> Option<u64>;
    /// Appends to `into` the positions of the first events of at most `limit` streams, beginning
    /// with stream number `from`. Streams are numbered by the order of their first events.
    fn first_positions(&self, from: u64, limit: usize, into: &mut Vec<u64>);
    /// Returns the table of the log's chunks.
    fn chunks(&self) -> &ChunkTable;
}
