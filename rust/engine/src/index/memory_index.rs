//! The index in memory; built by a scan of the log when a store is opened.
//!
//! It takes at most 60 bytes for a stream, 12 for an event, 40 for a keyed commit and 24 for
//! every 16 KiB of log; 40 for a category, and if the category has more than one stream, 60 more
//! and 12 for each of its streams. `docs/decisions/0022-index-in-memory.md` has the calculation and the
//! measurements.

use super::apply_error::{ApplyError, IndexLimit};
use super::arena::Arena;
use super::categories::Categories;
use super::chunk_table::ChunkTable;
use super::frame_entry::{FrameEntry, StreamEntry};
use super::interface::Index;
use super::postings::Postings;
use super::slot_table::{NameHash, Slot, SlotTable};

/// Streams, categories, idempotency keys and chunks, in tables that never move their items.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex {
    head: u64,
    streams: SlotTable<Postings>,
    categories: Categories,
    arena: Arena,
    keyed_frames: SlotTable<KeyedFrame>,
    chunks: ChunkTable,
}

/// The frame that was appended with an idempotency key: 24 bytes.
#[derive(Debug)]
struct KeyedFrame {
    key_hash: NameHash,
    address: u64,
}

impl Slot for KeyedFrame {
    fn name_hash(&self) -> NameHash {
        self.key_hash
    }
}

impl MemoryIndex {
    /// An empty index of at most this many streams and keys.
    #[cfg(test)]
    pub(crate) fn limited(streams: u32, keys: u32) -> Self {
        Self {
            streams: SlotTable::limited(streams),
            keyed_frames: SlotTable::limited(keys),
            ..Self::default()
        }
    }

    /// Add the events of one stream in a frame. `created_categories` are the categories of this
    /// stream and of the later ones, as far as the frame creates them.
    fn apply_stream(
        &mut self,
        stream: &StreamEntry,
        created_categories: &mut impl Iterator<Item = u128>,
        mut positions: impl Iterator<Item = u64>,
    ) -> Result<(), ApplyError> {
        let stream_hash = NameHash::new(stream.stream_hash);
        let postings = match self.streams.get_mut(stream_hash) {
            Some(postings) if postings.count() == stream.base_version => postings,
            None if stream.base_version == 0 => {
                let Some(first) = positions.next() else {
                    return Ok(());
                };
                if let Some(category) = created_categories.next() {
                    self.categories
                        .add(NameHash::new(category), first, &mut self.arena)?;
                }
                self.streams
                    .insert(Postings::starting_at(stream_hash, first))
                    .ok_or(IndexLimit::Streams)?
            }
            other => {
                return Err(ApplyError::VersionMismatch {
                    base: stream.base_version,
                    actual: other.map_or(0, |postings| postings.count()),
                });
            }
        };
        for position in positions {
            postings
                .push(position, &mut self.arena)
                .ok_or(IndexLimit::Postings)?;
        }
        Ok(())
    }

    fn apply_key(&mut self, key_hash: NameHash, address: u64) -> Result<(), IndexLimit> {
        if let Some(keyed) = self.keyed_frames.get_mut(key_hash) {
            keyed.address = address;
            return Ok(());
        }
        let keyed = KeyedFrame { key_hash, address };
        let inserted = self.keyed_frames.insert(keyed).map(|_| ());
        inserted.ok_or(IndexLimit::IdempotencyKeys)
    }
}

impl Index for MemoryIndex {
    fn apply(&mut self, frame: &FrameEntry) -> Result<(), ApplyError> {
        let mut ordinals = frame.ordinals.as_slice();
        let mut created_categories = frame.created_categories.as_slice().iter().copied();
        for stream in &frame.streams {
            let (own, rest) = ordinals
                .split_at_checked(stream.count as usize)
                .unwrap_or((ordinals, &[]));
            ordinals = rest;
            let position = |ordinal: &u32| frame.first_position + u64::from(*ordinal);
            self.apply_stream(stream, &mut created_categories, own.iter().map(position))?;
        }
        if let Some(key_hash) = frame.key_hash {
            self.apply_key(NameHash::new(key_hash), frame.address)?;
        }
        self.chunks
            .push(frame.first_position, frame.address, frame.length);
        if frame.events() > 0 {
            self.head = frame.first_position + frame.events() - 1;
        }
        Ok(())
    }

    fn nearly_full(&self) -> Option<IndexLimit> {
        if self.streams.is_nearly_full() {
            Some(IndexLimit::Streams)
        } else if self.keyed_frames.is_nearly_full() {
            Some(IndexLimit::IdempotencyKeys)
        } else {
            self.arena.is_nearly_full().then_some(IndexLimit::Postings)
        }
    }

    fn head(&self) -> u64 {
        self.head
    }

    fn streams(&self) -> u64 {
        self.streams.len() as u64
    }

    fn idempotency_keys(&self) -> u64 {
        self.keyed_frames.len() as u64
    }

    fn version(&self, stream_hash: u128) -> u64 {
        self.streams
            .get(NameHash::new(stream_hash))
            .map_or(0, Postings::count)
    }

    fn version_at(&self, stream_hash: u128, position: u64) -> u64 {
        self.streams
            .get(NameHash::new(stream_hash))
            .map_or(0, |postings| postings.count_at(position, &self.arena))
    }

    fn positions(&self, stream_hash: u128, first: u64, last: u64, into: &mut Vec<u64>) {
        if let Some(postings) = self.streams.get(NameHash::new(stream_hash)) {
            postings.range(first, last, &self.arena, into);
        }
    }

    fn category_version(&self, category_hash: u128) -> u64 {
        self.categories.version(NameHash::new(category_hash))
    }

    fn category_version_at(&self, category_hash: u128, position: u64) -> u64 {
        let category_hash = NameHash::new(category_hash);
        self.categories
            .version_at(category_hash, position, &self.arena)
    }

    fn category_positions(&self, category_hash: u128, first: u64, last: u64, into: &mut Vec<u64>) {
        let category_hash = NameHash::new(category_hash);
        self.categories
            .positions(category_hash, (first, last), &self.arena, into);
    }

    fn keyed_frame(&self, key_hash: u128) -> Option<u64> {
        self.keyed_frames
            .get(NameHash::new(key_hash))
            .map(|keyed| keyed.address)
    }

    fn first_positions(&self, from: u64, limit: usize, into: &mut Vec<u64>) {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let slots = (from..self.streams.len()).filter_map(|i| self.streams.slot(i));
        into.extend(slots.take(limit).map(Postings::first));
    }

    fn chunks(&self) -> &ChunkTable {
        &self.chunks
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
