//! The sparse table from positions and addresses to stretches of the log.
//!
//! A chunk is a run of whole frames, at least [`CHUNK`] bytes long but for the newest one and
//! the last of a segment. It is what readers load, verify and cache as one.

use super::paged_vec::Paged;

/// A new chunk begins at the first frame that starts this many bytes after its chunk.
const CHUNK: u64 = 16 << 10;

/// One stretch of whole frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) first_position: u64,
    pub(crate) address: u64,
    pub(crate) length: u64,
}

impl Chunk {
    pub(crate) fn end(&self) -> u64 {
        self.address + self.length
    }
}

/// All chunks, ascending: 24 bytes for every 16 KiB of log.
#[derive(Debug, Default)]
pub(crate) struct ChunkTable {
    chunks: Paged<Chunk>,
}

impl ChunkTable {
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

    /// The index of the chunk that holds an event.
    pub(crate) fn of_position(&self, position: u64) -> Option<usize> {
        self.chunks
            .partition_point(|chunk| chunk.first_position <= position)
            .checked_sub(1)
    }

    /// The chunk that holds the frame at an address.
    pub(crate) fn of_address(&self, address: u64) -> Option<Chunk> {
        let i = self
            .chunks
            .partition_point(|chunk| chunk.address <= address)
            .checked_sub(1)?;
        self.get(i)
    }
}
