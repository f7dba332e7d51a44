//! The cache of verified chunks.

use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;

use super::loaded_chunk::{FrameAt, LoadedChunk};

/// Verified chunks by address; the sum of their bytes is bounded. The cache synchronises itself.
pub(crate) struct ChunkCache(pub(crate) QuickCache<u64, Arc<LoadedChunk>, ByBytes>);

#[derive(Clone)]
pub(crate) struct ByBytes;

impl Weighter<u64, Arc<LoadedChunk>> for ByBytes {
    fn weight(&self, _address: &u64, chunk: &Arc<LoadedChunk>) -> u64 {
        (chunk.bytes.len() + chunk.frames.len() * size_of::<FrameAt>() + 64) as u64
    }
}

impl ChunkCache {
    /// An empty cache of at most `capacity` bytes.
    pub(crate) fn of_bytes(capacity: u64) -> Self {
        let chunks = usize::try_from(capacity / (16 << 10))
            .unwrap_or(usize::MAX)
            .max(16);
        Self(QuickCache::with_weighter(chunks, capacity, ByBytes))
    }
}

impl fmt::Debug for ChunkCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkCache")
            .field("chunks", &self.0.len())
            .finish_non_exhaustive()
    }
}
