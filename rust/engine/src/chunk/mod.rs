//! Chunks of the log: whole frames in memory, verified when they are loaded.

mod chunk_cache;
mod loaded_chunk;
mod stretch;

pub(crate) use chunk_cache::Cache;
pub(crate) use loaded_chunk::{FrameAt, LoadedChunk};
pub(crate) use stretch::{Sources, Stretch};
