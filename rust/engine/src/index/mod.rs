//! Where things are: stream -> versions -> positions -> addresses; idempotency key -> frame.
//!
//! The index is derived from the log and holds durable commits only; what is written but not
//! yet durable lives in the committer's overlay. [`Index`] is the interface; today's
//! [`memory::MemoryIndex`] is rebuilt by scanning at open, immutable runs on disk come to
//! stand behind it.

mod arena;
mod chunks;
mod entry;
mod memory;
mod paged;
mod postings;
mod table;

pub(crate) use chunks::{Chunk, ChunkTable};
pub(crate) use entry::{FrameEntry, Index, StreamEntry, Unfit};
pub(crate) use memory::MemoryIndex;
