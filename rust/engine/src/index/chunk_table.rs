//! The sparse table from positions and addresses to chunks of the log.
//!
//! A chunk is a run of whole frames. It is the unit that readers load, verify and cache. Every
//! chunk is at least [`CHUNK`] bytes long, except the newest one and the last of a segment.

use super::paged_vec::PagedVec;

/// The length in bytes at which a chunk is complete: the next frame begins a new chunk.
const CHUNK: u64 = 16 << 10;

/// A run of whole frames in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) first_position: u64,
    pub(crate) address: u64,
    pub(crate) length: u64,
}

impl Chunk {
    /// The address after the chunk.
    pub(crate) fn end(&self) -> u64 {
        self.address + self.length
    }
}

/// All chunks, ascending: 24 bytes for every 16 KiB of log.
#[derive(Debug, Default)]
pub(crate) struct ChunkTable {
    chunks: PagedVec<Chunk>,
}

impl ChunkTable {
    /// Add a frame: to the newest chunk if the frame follows it and the chunk is still small, else
    /// as a new chunk.
    pub(super) fn push(&mut self, first_position: u64, address: u64, length: u64) {
        if let Some(last) = self.chunks.last_mut()
            && last.end() == address
            && last.length < CHUNK
        {
            last.length += length;
            return;
        }
        self.chunks.push(Chunk {
            first_position,
            address,
            length,
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.chunks.len()
    }

    pub(crate) fn get(&self, i: usize) -> Option<Chunk> {
        self.chunks.get(i).copied()
    }

    /// The number of the chunk that contains the event at a position.
    pub(crate) fn of_position(&self, position: u64) -> Option<usize> {
        self.chunks
            .partition_point(|chunk| chunk.first_position <= position)
            .checked_sub(1)
    }

    /// The chunk that contains the frame at an address.
    pub(crate) fn of_address(&self, address: u64) -> Option<Chunk> {
        let i = self
            .chunks
            .partition_point(|chunk| chunk.address <= address)
            .checked_sub(1)?;
        self.get(i)
    }
}
