//! The index, compared with a model of plain lists.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The index as plain lists.
#[derive(Debug, Default)]
struct Model {
    streams: BTreeMap<u128, Vec<u64>>,
    /// The positions of the first events of each category's streams.
    categories: BTreeMap<u128, Vec<u64>>,
    keys: BTreeMap<u128, u64>,
    head: u64,
    end: u64,
}

impl Model {
    /// Append a frame whose events belong to these streams, in this order.
    fn frame(&mut self, events: &[u128], key: Option<u128>) -> FrameEntry {
        let first_position = self.head + 1;
        // In the order of the streams' first events, as in a frame.
        let mut by_stream: Vec<(u128, Vec<u32>)> = Vec::new();
        for (ordinal, stream) in (0u32..).zip(events) {
            match by_stream.iter_mut().find(|(known, _)| known == stream) {
                Some((_, own)) => own.push(ordinal),
                None => by_stream.push((*stream, vec![ordinal])),
            }
        }
        let entry = |(stream_hash, own): &(u128, Vec<u32>)| StreamEntry {
            stream_hash: *stream_hash,
            base_version: self.streams.get(stream_hash).map_or(0, Vec::len) as u64,
            count: u32::try_from(own.len()).unwrap(),
        };
        let frame = FrameEntry {
            address: self.end,
            length: 96 + 64 * events.len() as u64,
            first_position,
            streams: by_stream.iter().map(entry).collect(),
            ordinals: by_stream
                .iter()
                .flat_map(|(_, own)| own.iter().copied())
                .collect(),
            created_categories: by_stream
                .iter()
                .filter(|(stream, _)| !self.streams.contains_key(stream))
                .map(|(stream, _)| category_of(*stream))
                .collect(),
            key_hash: key,
        };
        for (stream, own) in &by_stream {
            if !self.streams.contains_key(stream) {
                let first = first_position + u64::from(own[0]);
                self.categories
                    .entry(category_of(*stream))
                    .or_default()
                    .push(first);
            }
        }
        for (stream, own) in by_stream {
            let positions = own.iter().map(|o| first_position + u64::from(*o));
            self.streams.entry(stream).or_default().extend(positions);
        }
        if let Some(key) = key {
            self.keys.insert(key, frame.address);
        }
        self.head += frame.events();
        self.end = frame.end();
        frame
    }
}

/// Some categories have one stream, and some have many.
fn category_of(stream: u128) -> u128 {
    let high = stream >> 64;
    hashed(u8::try_from(high % 200).unwrap().saturating_sub(160)) ^ 1
}

/// Spread small numbers as hashes are spread. Some of the results select the same shard, and some
/// have one half in common.
fn hashed(n: u8) -> u128 {
    let spread = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let spread = if n.is_multiple_of(3) {
        spread & !0x7f
    } else {
        spread
    };
    if n.is_multiple_of(5) {
        spread & u128::from(u64::MAX)
    } else {
        spread
    }
}

fn frames() -> impl Strategy<Value = Vec<(Vec<u8>, Option<u8>)>> {
    let events = proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..40);
    proptest::collection::vec((events, proptest::option::of(0u8..32)), 1..60)
}

proptest! {
    #[test]
    fn the_index_returns_what_a_model_returns(
        frames in frames(),
        probes in proptest::collection::vec((any::<u8>(), any::<u16>(), 0u64..60, 0u64..60), 40),
    ) {
        let (mut model, mut index) = (Model::default(), MemoryIndex::default());
        for (events, key) in &frames {
            let events: Vec<u128> = events.iter().map(|n| hashed(*n)).collect();
            let frame = model.frame(&events, key.map(hashed));
            index.apply(&frame).unwrap();
        }
        prop_assert_eq!(index.head(), model.head);
        prop_assert_eq!(index.streams(), model.streams.len() as u64);
        let mut firsts = Vec::new();
        index.first_positions(0, 1, &mut firsts);
        index.first_positions(1, usize::MAX, &mut firsts);
        firsts.sort_unstable();
        let mut expected: Vec<u64> = model.streams.values().map(|list| list[0]).collect();
        expected.sort_unstable();
        prop_assert_eq!(firsts, expected);
        for n in 0..=u8::MAX {
            let list = model.streams.get(&hashed(n)).map_or(0, Vec::len) as u64;
            prop_assert_eq!(index.version(hashed(n)), list);
            prop_assert_eq!(index.keyed_frame(hashed(n)), model.keys.get(&hashed(n)).copied());
        }
        for (n, position, first, last) in &probes {
            let category = hashed(n % 40) ^ 1;
            let position = u64::from(*position) % (model.head + 3);
            let list = model.categories.get(&category).cloned().unwrap_or_default();
            prop_assert_eq!(index.category_version(category), list.len() as u64);
            let below = list.iter().filter(|p| **p <= position).count() as u64;
            prop_assert_eq!(index.category_version_at(category, position), below);
            let mut found = Vec::new();
            index.category_positions(category, *first, *last, &mut found);
            let expected = (1u64..).zip(&list)
                .filter(|(v, _)| (first..=last).contains(&v)).map(|(_, p)| *p);
            prop_assert!(found.into_iter().eq(expected));
        }
        for (n, position, first, last) in probes {
            let stream = hashed(n % 8);
            let position = u64::from(position) % (model.head + 3);
            let list = model.streams.get(&stream).cloned().unwrap_or_default();
            let below = list.iter().filter(|p| **p <= position).count() as u64;
            prop_assert_eq!(index.version_at(stream, position), below);
            let mut found = Vec::new();
            index.positions(stream, first, last, &mut found);
            let expected = (1u64..).zip(&list)
                .filter(|(v, _)| (first..=last).contains(v)).map(|(_, p)| *p);
            prop_assert!(found.into_iter().eq(expected));
        }
    }

    #[test]
    fn every_frame_is_in_one_chunk(lengths in proptest::collection::vec(1u64..3000, 1..3000)) {
        let mut chunks = ChunkTable::default();
        let (mut position, mut address) = (1, 4096);
        let mut frames = Vec::new();
        for length in lengths {
            // A gap, as between two segments, starts a new chunk.
            address += if length % 97 == 0 { 4096 } else { 0 };
            chunks.push(position, address, length * 8);
            frames.push((position, address, length * 8));
            address += length * 8;
            position += 1;
        }
        for (position, address, length) in frames {
            let chunk = chunks.get(chunks.of_position(position).unwrap()).unwrap();
            prop_assert_eq!(Some(chunk), chunks.of_address(address));
            prop_assert!(chunk.address <= address && address + length <= chunk.end());
        }
    }
}

fn frame_of(stream: u128, base_version: u64, first_position: u64, key: Option<u128>) -> FrameEntry {
    FrameEntry {
        first_position,
        streams: vec![StreamEntry {
            stream_hash: stream,
            base_version,
            count: 1,
        }],
        ordinals: vec![0],
        key_hash: key,
        ..FrameEntry::default()
    }
}

#[test]
fn a_frame_that_continues_another_version_is_refused() {
    let mut index = MemoryIndex::default();
    index.apply(&frame_of(1, 0, 1, None)).unwrap();
    let version = |base, actual| Err(ApplyError::VersionMismatch { base, actual });
    assert_eq!(index.apply(&frame_of(1, 0, 2, None)), version(0, 1));
    assert_eq!(index.apply(&frame_of(1, 2, 2, None)), version(2, 1));
    assert_eq!(index.apply(&frame_of(2, 1, 2, None)), version(1, 0));
}

#[test]
fn each_limit_is_reported_before_it_is_reached_and_then_refuses() {
    let mut index = MemoryIndex::limited(128, 64);
    for n in 0..126 {
        assert_eq!(index.nearly_full(), None);
        index
            .apply(&frame_of(hashed(n) + 1, 0, u64::from(n) + 1, None))
            .unwrap();
    }
    assert_eq!(index.nearly_full(), Some(IndexLimit::Streams));
    for n in 126..128 {
        index
            .apply(&frame_of(hashed(n) + 1, 0, u64::from(n) + 1, None))
            .unwrap();
    }
    let one_more = frame_of(hashed(128) + 1, 0, 129, None);
    assert_eq!(
        index.apply(&one_more),
        Err(ApplyError::Full(IndexLimit::Streams))
    );

    let mut index = MemoryIndex::limited(128, 64);
    for n in 0..64 {
        let keyed = frame_of(1, u64::from(n), u64::from(n) + 1, Some(hashed(n)));
        index.apply(&keyed).unwrap();
    }
    assert_eq!(index.nearly_full(), Some(IndexLimit::IdempotencyKeys));
    let one_more = frame_of(1, 64, 65, Some(hashed(64)));
    assert_eq!(
        index.apply(&one_more),
        Err(ApplyError::Full(IndexLimit::IdempotencyKeys))
    );

    let mut index = MemoryIndex {
        arena: Arena::limited(1),
        ..MemoryIndex::default()
    };
    let refused = (0..1_000_000).find_map(|n| index.apply(&frame_of(1, n, n + 1, None)).err());
    assert_eq!(refused, Some(ApplyError::Full(IndexLimit::Postings)));
    assert_eq!(index.nearly_full(), Some(IndexLimit::Postings));
}
