//! Where things are: stream -> versions -> positions -> addresses; idempotency key -> frame.
//!
//! The index is derived from the log and holds durable commits only; what is written but not
//! yet durable lives in the committer's overlay. [`Index`] is the interface; today's
//! [`memory_index::MemoryIndex`] is rebuilt by scanning at open, immutable runs on disk come to
//! stand behind it.

mod arena;
mod chunk_table;
mod frame_entry;
mod memory_index;
mod paged_vec;
mod postings;
mod slot_table;

pub(crate) use chunk_table::{Chunk, ChunkTable};
pub(crate) use frame_entry::{FrameEntry, Index, StreamEntry, Unfit};
pub(crate) use memory_index::MemoryIndex;
