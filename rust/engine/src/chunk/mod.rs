//! Chunks of the log: whole frames in memory, verified when they are loaded.

mod cache;
mod loaded;
mod stretch;

pub(crate) use cache::Cache;
pub(crate) use loaded::{FrameAt, LoadedChunk};
pub(crate) use stretch::{Sources, Stretch};
