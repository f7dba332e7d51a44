//! Load chunks of the log from the cache or from the file.

use std::sync::Arc;

use super::live_log::LiveLog;
use crate::chunk::LoadedChunk;
use crate::error::{Error, Result};
use crate::index::{Chunk, Index};
use crate::log::Segment;
use crate::options::ReadMode;
use crate::vfs::{VfsFile as _, read_full};

/// Maximum bytes of log that a non-blocking read loads. Copying that much from the page cache and
/// verifying it takes well below a millisecond.
const NON_BLOCKING_BYTES: u64 = 1 << 20;

/// Loads the chunks of one read.
pub(crate) struct Loader<'a> {
    log: &'a LiveLog,
    mode: ReadMode,
    /// Remaining bytes that a non-blocking read may load into memory.
    left: u64,
    current: Option<(u64, Arc<LoadedChunk>)>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(log: &'a LiveLog, mode: ReadMode) -> Self {
        let left = match mode {
            ReadMode::Blocking => u64::MAX,
            ReadMode::NonBlocking => NON_BLOCKING_BYTES,
        };
        Self {
            log,
            mode,
            left,
            current: None,
        }
    }

    /// Load the frames of a chunk.
    ///
    /// # Errors
    ///
    /// As [`LiveLog::load`]. Also [`Error::WouldBlock`] if a non-blocking read would load too much.
    pub(crate) fn chunk(&mut self, chunk: Chunk) -> Result<&Arc<LoadedChunk>> {
        if !matches!(&self.current, Some((address, _)) if *address == chunk.address) {
            if self.mode == ReadMode::NonBlocking {
                let left = self.left.checked_sub(self.log.missing(chunk));
                self.left = left.ok_or(Error::WouldBlock)?;
            }
            let loaded = self.log.load(chunk, self.mode)?;
            self.current = Some((chunk.address, loaded));
        }
        self.current
            .as_ref()
            .map(|(_, loaded)| loaded)
            .ok_or(Error::Closed)
    }
}

impl LiveLog {
    /// Return the current extent of the `i`-th chunk.
    pub(crate) fn chunk(&self, i: usize) -> Option<Chunk> {
        self.index.read().chunks().get(i)
    }

    /// Load the frames of a chunk. The newest chunk may have grown since `chunk` was read from the
    /// index.
    pub(crate) fn load(&self, chunk: Chunk, mode: ReadMode) -> Result<Arc<LoadedChunk>> {
        self.cached_or_read(chunk, mode, |loaded| {
            self.cache.0.insert(chunk.address, Arc::clone(loaded));
        })
    }

    /// Return how many bytes of a chunk are not in memory.
    pub(super) fn missing(&self, chunk: Chunk) -> u64 {
        let cached = self.cache.0.peek(&chunk.address);
        chunk.length - cached.map_or(0, |cached| chunk.length.min(cached.bytes.len() as u64))
    }

    /// Like [`LiveLog::load`], for a reader that needs each chunk once: it evicts nothing from the
    /// cache.
    pub(crate) fn load_aside(&self, chunk: Chunk, mode: ReadMode) -> Result<Arc<LoadedChunk>> {
        self.cached_or_read(chunk, mode, |_| ())
    }

    fn cached_or_read(
        &self,
        chunk: Chunk,
        mode: ReadMode,
        keep: impl FnOnce(&Arc<LoadedChunk>),
    ) -> Result<Arc<LoadedChunk>> {
        let cached = self.cache.0.get(&chunk.address);
        if let Some(loaded) = &cached
            && loaded.bytes.len() as u64 >= chunk.length
        {
            self.local.cache_hits.add(1);
            return Ok(Arc::clone(loaded));
        }
        self.local.cache_misses.add(1);
        let loaded = Arc::new(self.read_chunk(chunk, cached.as_deref(), mode)?);
        keep(&loaded);
        Ok(loaded)
    }

    /// Read a chunk, or only the part by which it has grown.
    fn read_chunk(
        &self,
        chunk: Chunk,
        cached: Option<&LoadedChunk>,
        mode: ReadMode,
    ) -> Result<LoadedChunk> {
        let segment = self
            .segments
            .of_address(chunk.address)
            .ok_or(Error::Closed)?;
        let have = cached.map_or(0, |cached| cached.bytes.len());
        let mut bytes = vec![0; usize::try_from(chunk.length).unwrap_or(usize::MAX)];
        let mut frames = Vec::new();
        if let (Some(cached), Some(begin)) = (cached, bytes.get_mut(..have)) {
            begin.copy_from_slice(&cached.bytes);
            frames.extend_from_slice(&cached.frames);
        }
        let offset = segment.offset(chunk.address) + have as u64;
        read_exactly(
            &segment,
            bytes.get_mut(have..).unwrap_or_default(),
            offset,
            mode,
        )?;
        let mut loaded = LoadedChunk {
            address: chunk.address,
            bytes,
            frames,
        };
        match loaded.verify(have, self.seed) {
            Ok(()) => Ok(loaded),
            Err((address, reason)) => Err(Error::corrupt(
                &segment.path,
                segment.offset(address),
                reason,
            )),
        }
    }
}

fn read_exactly(segment: &Segment, bytes: &mut [u8], offset: u64, mode: ReadMode) -> Result<()> {
    let wanted = bytes.len();
    let read = match mode {
        ReadMode::Blocking => read_full(&segment.file, bytes, offset),
        ReadMode::NonBlocking => match segment.file.read_at_nowait(bytes, offset) {
            Ok(Some(n)) if n == wanted => Ok(n),
            Ok(_) => return Err(Error::WouldBlock),
            Err(e) => Err(e),
        },
    };
    match read {
        Ok(n) if n == wanted => Ok(()),
        Ok(n) => Err(Error::corrupt(
            &segment.path,
            offset + n as u64,
            "the file ends here",
        )),
        Err(e) => Err(segment.error("read", &e)),
    }
}
