//! Chunks of the log: loaded, verified, kept.

use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;

use super::query::Effort;
use crate::error::{Error, Result};
use crate::frame::{FrameView, Seed, Truth};
use crate::index::{Chunk, Index};
use crate::live::LiveLog;
use crate::log::Segment;

/// Whole frames, verified.
pub(crate) struct LoadedChunk {
    address: u64,
    bytes: Vec<u8>,
    frames: Vec<FrameAt>,
}

/// Where a frame begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameAt {
    pub(super) offset: u32,
    pub(super) first_position: u64,
    pub(super) events: u32,
}

impl LoadedChunk {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn frames(&self) -> &[FrameAt] {
        &self.frames
    }

    /// The frame that holds an event, and the event's place in it.
    pub(super) fn locate(&self, position: u64) -> Option<(u32, u32)> {
        let i = self
            .frames
            .partition_point(|f| f.first_position <= position)
            .checked_sub(1)?;
        let frame = self.frames.get(i)?;
        let event = u32::try_from(position - frame.first_position).ok()?;
        (event < frame.events).then_some((frame.offset, event))
    }

    /// The frame that begins at an address.
    pub(super) fn frame_at(&self, address: u64) -> Option<FrameView<'_>> {
        let offset = usize::try_from(address.checked_sub(self.address)?).ok()?;
        FrameView::trusted(self.bytes.get(offset..)?)
    }

    /// Takes up the frames in the bytes from `from` on, or says where one is bad.
    fn verify(&mut self, from: usize, seed: Seed) -> std::result::Result<(), (u64, &'static str)> {
        let mut offset = from;
        while offset < self.bytes.len() {
            let address = self.address + offset as u64;
            let bytes = self.bytes.get(offset..).unwrap_or_default();
            let frame = FrameView::check(bytes, Truth { seed, address })
                .map_err(|reason| (address, reason))?;
            let header = *frame.header();
            self.frames.push(FrameAt {
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
                first_position: header.first_position,
                events: header.events,
            });
            offset += header.length as usize;
        }
        Ok(())
    }
}

impl fmt::Debug for LoadedChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedChunk")
            .field("address", &self.address)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Verified chunks by address, bounded by bytes.
pub(crate) struct Cache(QuickCache<u64, Arc<LoadedChunk>, ByBytes>);

#[derive(Clone)]
struct ByBytes;

impl Weighter<u64, Arc<LoadedChunk>> for ByBytes {
    fn weight(&self, _address: &u64, chunk: &Arc<LoadedChunk>) -> u64 {
        (chunk.bytes.len() + chunk.frames.len() * size_of::<FrameAt>() + 64) as u64
    }
}

impl Cache {
    pub(crate) fn of_bytes(capacity: u64) -> Self {
        let chunks = usize::try_from(capacity / (16 << 10))
            .unwrap_or(usize::MAX)
            .max(16);
        Self(QuickCache::with_weighter(chunks, capacity, ByBytes))
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("chunks", &self.0.len())
            .finish_non_exhaustive()
    }
}

impl LiveLog {
    /// The `i`-th chunk as it is now.
    pub(super) fn chunk(&self, i: usize) -> Option<Chunk> {
        self.index.read().chunks().get(i)
    }

    /// The frames of a chunk; the newest chunk may hold more of them than when it was asked
    /// for.
    pub(super) fn load(&self, chunk: Chunk, effort: Effort) -> Result<Arc<LoadedChunk>> {
        self.known_or_read(chunk, effort, |loaded| {
            self.cache.0.insert(chunk.address, Arc::clone(loaded));
        })
    }

    /// As [`LiveLog::load`], for a reader that comes by once: what it reads drives nothing out
    /// of the cache.
    pub(super) fn load_aside(&self, chunk: Chunk, effort: Effort) -> Result<Arc<LoadedChunk>> {
        self.known_or_read(chunk, effort, |_| ())
    }

    fn known_or_read(
        &self,
        chunk: Chunk,
        effort: Effort,
        keep: impl FnOnce(&Arc<LoadedChunk>),
    ) -> Result<Arc<LoadedChunk>> {
        let known = self.cache.0.get(&chunk.address);
        if let Some(loaded) = &known
            && loaded.bytes.len() as u64 >= chunk.length
        {
            self.counters.cache_hits.add(1);
            return Ok(Arc::clone(loaded));
        }
        self.counters.cache_misses.add(1);
        let loaded = Arc::new(self.read_chunk(chunk, known.as_deref(), effort)?);
        keep(&loaded);
        Ok(loaded)
    }

    /// Reads a chunk, or what it has grown by.
    fn read_chunk(
        &self,
        chunk: Chunk,
        known: Option<&LoadedChunk>,
        effort: Effort,
    ) -> Result<LoadedChunk> {
        let segment = self
            .segments
            .of_address(chunk.address)
            .ok_or(Error::Closed)?;
        let have = known.map_or(0, |known| known.bytes.len());
        let mut bytes = vec![0; usize::try_from(chunk.length).unwrap_or(usize::MAX)];
        let mut frames = Vec::new();
        if let (Some(known), Some(begin)) = (known, bytes.get_mut(..have)) {
            begin.copy_from_slice(&known.bytes);
            frames.extend_from_slice(&known.frames);
        }
        let offset = segment.offset(chunk.address) + have as u64;
        read_exactly(
            &segment,
            bytes.get_mut(have..).unwrap_or_default(),
            offset,
            effort,
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

fn read_exactly(segment: &Segment, bytes: &mut [u8], offset: u64, effort: Effort) -> Result<()> {
    let wanted = bytes.len();
    let read = match effort {
        Effort::Blocking => crate::vfs::read_full(&*segment.file, bytes, offset),
        Effort::Inline => match segment.file.read_at_nowait(bytes, offset) {
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
