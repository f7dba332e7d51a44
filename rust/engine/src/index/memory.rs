//! The whole index in memory, rebuilt by scanning the log at open.

use hashbrown::HashMap;

use super::postings::Postings;
use super::{ChunkTable, FrameEntry, Index};

/// Keys are hash values already, so hashing them again buys nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Prehashed(u64);

impl std::hash::Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = u64::try_from(key >> 64).unwrap_or_default();
    }
}

type ByKey<V> = HashMap<u128, V, std::hash::BuildHasherDefault<Prehashed>>;

/// Streams, keys and chunks in hash maps and arrays.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex {
    head: u64,
    streams: ByKey<Postings>,
    keys: ByKey<u64>,
    chunks: ChunkTable,
}

impl Index for MemoryIndex {
    fn apply(&mut self, frame: &FrameEntry) {
        self.chunks
            .push(frame.first_position, frame.address, frame.length);
        let mut ordinals = frame.ordinals.as_slice();
        for stream in &frame.streams {
            let postings = self.streams.entry(stream.key).or_default();
            let (own, rest) = ordinals
                .split_at_checked(stream.count as usize)
                .unwrap_or((ordinals, &[]));
            ordinals = rest;
            for ordinal in own {
                postings.push(frame.first_position + u64::from(*ordinal));
            }
        }
        if let Some(key) = frame.key {
            self.keys.insert(key, frame.address);
        }
        if frame.events > 0 {
            self.head = frame.first_position + frame.events - 1;
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
        self.streams.get(&stream).map_or(0, Postings::count)
    }

    fn version_at(&self, stream: u128, position: u64) -> u64 {
        self.streams
            .get(&stream)
            .map_or(0, |postings| postings.count_at(position))
    }

    fn positions(&self, stream: u128, first: u64, last: u64, into: &mut Vec<u64>) {
        if let Some(postings) = self.streams.get(&stream) {
            postings.range(first, last, into);
        }
    }

    fn keyed_frame(&self, key: u128) -> Option<u64> {
        self.keys.get(&key).copied()
    }

    fn first_positions(&self) -> Vec<u64> {
        self.streams.values().map(Postings::first).collect()
    }

    fn chunks(&self) -> &ChunkTable {
        &self.chunks
    }
}
