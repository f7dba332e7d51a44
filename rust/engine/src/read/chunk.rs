//! Chunks of the log: loaded, verified, kept.

use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;

use super::query::Effort;
use super::recorded::Recorded;
use crate::error::{Error, Result};
use crate::frame::{FrameView, Seed, Truth};
use crate::index::{Chunk, Index};
use crate::live::LiveLog;
use crate::log::Segment;
use crate::vfs::{VfsFile as _, read_full};

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

impl FrameAt {
    /// Which of its events is at a position, if it has it.
    fn ordinal(&self, position: u64) -> Option<u32> {
        let ordinal = u32::try_from(position.checked_sub(self.first_position)?).ok()?;
        (ordinal < self.events).then_some(ordinal)
    }
}

/// Takes events out of one chunk; neighbours in a frame need the frame's header only once.
pub(super) struct Picker<'a> {
    chunk: &'a Arc<LoadedChunk>,
    frame: Option<(FrameAt, FrameView<'a>)>,
}

impl<'a> Picker<'a> {
    pub(super) fn new(chunk: &'a Arc<LoadedChunk>) -> Self {
        Self { chunk, frame: None }
    }

    /// The event at a position, if the chunk holds it.
    pub(super) fn event(&mut self, position: u64) -> Option<Recorded> {
        let known = self.frame.filter(|(at, _)| at.ordinal(position).is_some());
        let (at, view) = if let Some(known) = known {
            known
        } else {
            let at = self.chunk.locate(position)?;
            (at, self.chunk.frame_from(at.offset)?)
        };
        self.frame = Some((at, view));
        Recorded::new(self.chunk, at.offset, &view, at.ordinal(position)?)
    }
}

impl LoadedChunk {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn frames(&self) -> &[FrameAt] {
        &self.frames
    }

    /// The frame that holds an event.
    fn locate(&self, position: u64) -> Option<FrameAt> {
        let i = self
            .frames
            .partition_point(|f| f.first_position <= position)
            .checked_sub(1)?;
        self.frames.get(i).copied()
    }

    /// The frame that begins at an address.
    pub(super) fn frame_at(&self, address: u64) -> Option<FrameView<'_>> {
        let offset = u32::try_from(address.checked_sub(self.address)?).ok()?;
        self.frame_from(offset)
    }

    /// The frame that begins at an offset in the chunk.
    pub(super) fn frame_from(&self, offset: u32) -> Option<FrameView<'_>> {
        FrameView::trusted(self.bytes.get(offset as usize..)?)
    }

    /// The stream of the event at a position.
    pub(super) fn stream_of(&self, position: u64) -> Option<&str> {
        let at = self.locate(position)?;
        let frame = self.frame_from(at.offset)?;
        Some(
            frame
                .stream(frame.event_stream(at.ordinal(position)?)?)?
                .name,
        )
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

/// How much log a read may load that must not wait, in bytes: the disk's cache gives and the
/// processor verifies that much in well below a millisecond.
const LOADED_INLINE: u64 = 1 << 20;

/// Loads the chunks that one read needs, one after the other.
pub(super) struct Loader<'a> {
    log: &'a LiveLog,
    effort: Effort,
    /// What an inline read may still load that isn't in memory.
    left: u64,
    current: Option<(u64, Arc<LoadedChunk>)>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(log: &'a LiveLog, effort: Effort) -> Self {
        let left = match effort {
            Effort::Blocking => u64::MAX,
            Effort::Inline => LOADED_INLINE,
        };
        Self {
            log,
            effort,
            left,
            current: None,
        }
    }

    /// The frames of a chunk.
    ///
    /// # Errors
    /// As [`LiveLog::load`]; [`Error::WouldBlock`] also where an inline read would load too
    /// much.
    pub(super) fn chunk(&mut self, chunk: Chunk) -> Result<&Arc<LoadedChunk>> {
        if !matches!(&self.current, Some((address, _)) if *address == chunk.address) {
            if self.effort == Effort::Inline {
                let left = self.left.checked_sub(self.log.missing(chunk));
                self.left = left.ok_or(Error::WouldBlock)?;
            }
            let loaded = self.log.load(chunk, self.effort)?;
            self.current = Some((chunk.address, loaded));
        }
        self.current
            .as_ref()
            .map(|(_, loaded)| loaded)
            .ok_or(Error::Closed)
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

    /// How many bytes of a chunk are not in memory.
    pub(super) fn missing(&self, chunk: Chunk) -> u64 {
        let known = self.cache.0.peek(&chunk.address);
        chunk.length - known.map_or(0, |known| chunk.length.min(known.bytes.len() as u64))
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
        Effort::Blocking => read_full(&segment.file, bytes, offset),
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
