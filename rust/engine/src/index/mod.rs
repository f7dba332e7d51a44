//! The index: stream → versions → positions → chunks of the log; category → streams; idempotency
//! key → frame.
//!
//! It is derived from the log alone: from a scan when a store is opened, and from one
//! [`FrameEntry`] for each commit after that. Its invariants:
//!
//! * It contains durable commits only. Commits that are written but not yet synced are in the
//!   committer's overlay, so no reader can see an event that a power cut may take back.
//! * Frames are applied in the order of the log, so postings and chunks only grow at the end.
//! * No structure in it ever moves or copies its items when it grows: readers wait for the
//!   index's lock, and a table that doubles would make all of them wait.
//!
//! [`Index`] is the interface. [`MemoryIndex`], the only implementation, is guarded by the `RwLock`
//! in `live::LiveLog`: readers share the lock, and the thread that publishes commits holds it
//! exclusively. No type in this folder has a lock of its own.
//!
//! | file | contents |
//! |---|---|
//! | `interface` | the trait that the rest of the engine uses |
//! | `memory_index` | the implementation: streams, idempotency keys, chunks |
//! | `frame_entry` | what one frame adds to the index |
//! | `apply_error` | why a frame is refused, and which limit is reached |
//! | `categories` | the streams of each category, by the positions of their first events |
//! | `postings` | the positions of one stream, delta-coded in a chain of blocks |
//! | `arena` | the memory of those blocks |
//! | `slot_table` | a hash table of items that never move |
//! | `paged_vec` | an array that grows without moving its items |
//! | `chunk_table` | from positions and addresses to the chunk of the log to load |

mod apply_error;
mod arena;
mod categories;
mod chunk_table;
mod frame_entry;
mod interface;
mod memory_index;
mod paged_vec;
mod postings;
mod slot_table;

pub(crate) use apply_error::ApplyError;
pub(crate) use chunk_table::{Chunk, ChunkTable};
pub(crate) use frame_entry::{FrameEntry, StreamEntry};
pub(crate) use interface::Index;
pub(crate) use memory_index::MemoryIndex;
