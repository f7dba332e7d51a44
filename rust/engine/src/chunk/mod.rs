//! Chunks of the log in memory: whole frames, verified when they are loaded.
//!
//! A chunk is never changed after it was verified, so any number of readers share it without a
//! lock. The newest chunk grows with the log: a longer chunk replaces it in the cache, and readers
//! of the shorter one keep that until they are done.
//!
//! * `loaded_chunk`: a verified chunk, and the frames in it.
//! * `chunk_cache`: the chunks that were used last, bounded by bytes.
//! * `new_events`: the chunks with new events, for waiters that have a filter.

mod chunk_cache;
mod loaded_chunk;
mod new_events;

pub(crate) use chunk_cache::ChunkCache;
pub(crate) use loaded_chunk::{FrameAt, LoadedChunk};
pub(crate) use new_events::{NewEvents, Sources};
