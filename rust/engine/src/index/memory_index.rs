//! The whole index in memory, rebuilt by scanning the log at open.
//!
//! At most 60 bytes a stream, 12 an event and 40 a keyed commit, and 24 for every 16 KiB of
//! log; `docs/decisions/0022-index-in-memory.md` has the sum and what was measured.

use super::arena::Arena;
use super::chunk_table::ChunkTable;
use super::frame_entry::{FrameEntry, Full, Index, StreamEntry, Unfit};
use super::postings::Postings;
use super::slot_table::{Key, Slot, SlotTable};

/// Streams, keys and chunks, in tables that never move what they hold.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex {
    head: u64,
    streams: SlotTable<Postings>,
    arena: Arena,
    keys: SlotTable<KeySlot>,
    chunks: ChunkTable,
}

/// The frame that was appended under a key: 24 bytes.
#[derive(Debug)]
struct KeySlot {
    key: Key,
    frame: u64,
}

impl Slot for KeySlot {
    fn key(&self) -> Key {
        self.key
    }
}

impl MemoryIndex {
    /// An index of this many streams and keys, at most.
    #[cfg(test)]
    pub(crate) fn limited(streams: u32, keys: u32) -> Self {
        Self {
            streams: SlotTable::limited(streams),
            keys: SlotTable::limited(keys),
            ..Self::default()
        }
    }

    /// Takes up one stream's part of a frame.
    fn apply_stream(
        &mut self,
        stream: &StreamEntry,
        mut positions: impl Iterator<Item = u64>,
    ) -> Result<(), Unfit> {
        let key = Key::new(stream.key);
        let postings = match self.streams.get_mut(key) {
            Some(postings) if postings.count() == stream.base_version => postings,
            None if stream.base_version == 0 => {
                let Some(first) = positions.next() else {
                    return Ok(());
                };
                self.streams
                    .insert(Postings::starting_at(key, first))
                    .ok_or(Full::Streams)?
            }
            other => {
                return Err(Unfit::Version {
                    base: stream.base_version,
                    actual: other.map_or(0, |postings| postings.count()),
                });
            }
        };
        for position in positions {
            postings
                .push(position, &mut self.arena)
                .ok_or(Full::Events)?;
        }
        Ok(())
    }

    fn apply_key(&mut self, key: Key, frame: u64) -> Result<(), Full> {
        if let Some(slot) = self.keys.get_mut(key) {
            slot.frame = frame;
            return Ok(());
        }
        let slot = KeySlot { key, frame };
        self.keys.insert(slot).map(|_| ()).ok_or(Full::Keys)
    }
}

impl Index for MemoryIndex {
    fn apply(&mut self, frame: &FrameEntry) -> Result<(), Unfit> {
        let mut ordinals = frame.ordinals.as_slice();
        for stream in &frame.streams {
            let (own, rest) = ordinals
                .split_at_checked(stream.count as usize)
                .unwrap_or((ordinals, &[]));
            ordinals = rest;
            let position = |ordinal: &u32| frame.first_position + u64::from(*ordinal);
            self.apply_stream(stream, own.iter().map(position))?;
        }
        if let Some(key) = frame.key {
            self.apply_key(Key::new(key), frame.address)?;
        }
        self.chunks
            .push(frame.first_position, frame.address, frame.length);
        if frame.events > 0 {
            self.head = frame.first_position + frame.events - 1;
        }
        Ok(())
    }

    fn nearly_full(&self) -> Option<Full> {
        if self.streams.is_nearly_full() {
            Some(Full::Streams)
        } else if self.keys.is_nearly_full() {
            Some(Full::Keys)
        } else {
            self.arena.is_nearly_full().then_some(Full::Events)
        }
    }

    fn head(&self) -> u64 {
        self.head
    }

    fn streams(&self) -> u64 {
        self.streams.len() as u64
    }

    fn keys(&self) -> u64 {
        self.keys.len() as u64
    }

    fn version(&self, stream: u128) -> u64 {
        self.streams
            .get(Key::new(stream))
            .map_or(0, Postings::count)
    }

    fn version_at(&self, stream: u128, position: u64) -> u64 {
        self.streams
            .get(Key::new(stream))
            .map_or(0, |postings| postings.count_at(position, &self.arena))
    }

    fn positions(&self, stream: u128, first: u64, last: u64, into: &mut Vec<u64>) {
        if let Some(postings) = self.streams.get(Key::new(stream)) {
            postings.range(first, last, &self.arena, into);
        }
    }

    fn keyed_frame(&self, key: u128) -> Option<u64> {
        self.keys.get(Key::new(key)).map(|slot| slot.frame)
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
