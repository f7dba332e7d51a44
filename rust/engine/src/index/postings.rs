//! The positions of one stream's events: ascending numbers, delta-coded.
//!
//! The first and the last stand in the stream's slot, so that a stream of one or two events,
//! the most common kind, has nothing else. From the third on, all but the first are varint
//! deltas in a chain of blocks. Each block points to the one before it and to one further
//! back, so that a version or a position of a long stream is found in a number of steps that
//! grows with the logarithm of its length (the jump pointers of Myers' random-access stack).

use super::arena::{Arena, BlockAt};
use super::slot_table::{Key, Slot};
use crate::bytes::{u32_at, u64_at};

/// Bytes of deltas in the first block, the second, and so on; all further blocks are as large
/// as the last. The steps are chosen so that even when every delta takes five bytes, slot and
/// blocks stay within 60 bytes a stream and 12 an event after each single event.
const PAYLOADS: [u16; 25] = [
    20, 28, 36, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1280,
    1536, 2048, 2560, 3072, 4072,
];

/// Before the deltas of every block but a stream's first: the block before (4 bytes), the one
/// to jump to (4), the position before the first delta (8), and (8) how many postings come
/// before, with the block's number in the chain above [`BASE_BITS`]. The first block needs
/// none of it: before its first delta stands the stream's first event.
const HEADER: usize = 24;
/// An arena holds less than 2^34 deltas, and less than 2^24 blocks of one chain.
const BASE_BITS: u32 = 40;

/// Bytes of a varint, at most.
const VARINT: usize = 10;

/// One stream: 48 bytes.
#[derive(Debug)]
pub(super) struct Postings {
    key: Key,
    first: u64,
    last: u64,
    count: u64,
    /// The newest block, when there is one.
    newest: BlockAt,
    /// Bytes of deltas in it.
    used: u16,
    /// Blocks, counted as far as it makes a difference to the next one's size.
    blocks: u16,
}

impl Slot for Postings {
    fn key(&self) -> Key {
        self.key
    }
}

impl Postings {
    /// A stream whose first event is at `position`.
    pub(super) fn starting_at(key: Key, position: u64) -> Self {
        Self {
            key,
            first: position,
            last: position,
            count: 1,
            newest: 0,
            used: 0,
            blocks: 0,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Adds the next posting; `None` when the arena is full.
    pub(super) fn push(&mut self, position: u64, arena: &mut Arena) -> Option<()> {
        if self.count == 2 {
            self.store(1, self.first, self.last, arena)?;
        }
        if self.count >= 2 {
            self.store(self.count, self.last, position, arena)?;
        }
        self.last = position;
        self.count += 1;
        Some(())
    }

    /// Puts a posting, the `base + 1`th, into the blocks.
    fn store(&mut self, base: u64, before: u64, position: u64, arena: &mut Arena) -> Option<()> {
        let mut buffer = [0; VARINT];
        let delta = varint(position.saturating_sub(before), &mut buffer);
        if delta.len() > self.room() {
            self.add_block(base, before, arena)?;
        }
        let header = if self.blocks > 1 { HEADER } else { 0 };
        arena.put(self.newest, header + usize::from(self.used), delta);
        self.used += u16::try_from(delta.len()).ok()?;
        Some(())
    }

    /// Bytes left in the newest block.
    fn room(&self) -> usize {
        self.blocks
            .checked_sub(1)
            .map_or(0, |number| payload(number) - usize::from(self.used))
    }

    fn add_block(&mut self, base: u64, position: u64, arena: &mut Arena) -> Option<()> {
        let header = if self.blocks == 0 { 0 } else { HEADER };
        let at = arena.make(header + payload(self.blocks))?;
        if self.blocks > 0 {
            let before = self.newest_block(arena);
            let number = (before.number + 1) << BASE_BITS;
            arena.put(at, 0, &before.at.to_le_bytes());
            arena.put(at, 4, &before.jump_of_next(at, arena).to_le_bytes());
            arena.put(at, 8, &position.to_le_bytes());
            arena.put(at, 16, &(number | base).to_le_bytes());
        }
        (self.newest, self.used) = (at, 0);
        self.blocks = self.blocks.saturating_add(1);
        Some(())
    }

    /// How many postings are at or below `position`.
    pub(super) fn count_at(&self, position: u64, arena: &Arena) -> u64 {
        if position >= self.last {
            return self.count;
        }
        if position < self.first {
            return 0;
        }
        if self.count == 2 {
            return 1;
        }
        let block = self.find(arena, |block| block.position > position);
        let (mut count, mut at) = (block.base, block.position);
        let mut deltas = block.deltas(arena);
        while let Some(delta) = read_varint(&mut deltas) {
            at += delta;
            // The last posting is above, so the loop ends before the deltas do.
            if at > position {
                break;
            }
            count += 1;
        }
        count
    }

    /// Appends the postings of versions `first..=last` (from 1) to `into`.
    pub(super) fn range(&self, first: u64, last: u64, arena: &Arena, into: &mut Vec<u64>) {
        let (first, last) = (first.max(1), last.min(self.count));
        if first > last {
            return;
        }
        if first == 1 {
            into.push(self.first);
        }
        let begin = first.max(2);
        if begin == last && last == self.count {
            into.push(self.last);
        } else if begin <= last {
            self.stored_range(begin, last, arena, into);
        }
    }

    /// Versions from 2, when there are more than two. The chain leads from the newest block
    /// to the oldest, so the end is filled first.
    fn stored_range(&self, first: u64, last: u64, arena: &Arena, into: &mut Vec<u64>) {
        let begin = into.len();
        let wanted = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        into.resize(begin.saturating_add(wanted), 0);
        let mut rest = into.get_mut(begin..).unwrap_or_default();
        let mut block = self.find(arena, |block| block.base >= last);
        loop {
            let own = usize::try_from((first - 1).saturating_sub(block.base)).unwrap_or(usize::MAX);
            let older = usize::try_from((block.base + 1).saturating_sub(first)).unwrap_or_default();
            let (older, newer) = rest.split_at_mut_checked(older).unwrap_or_default();
            block.fill(arena, own, newer);
            if older.is_empty() {
                return;
            }
            rest = older;
            block = self.previous(&block, arena);
        }
    }

    /// The newest block that isn't `beyond`. Whatever is beyond has only such after it.
    fn find(&self, arena: &Arena, beyond: impl Fn(&Block) -> bool) -> Block {
        let mut block = self.newest_block(arena);
        while block.number > 0 && beyond(&block) {
            let far = if block.number > 1 {
                Block::read(arena, block.jump)
            } else {
                block
            };
            block = if far.number < block.number && beyond(&far) {
                far
            } else {
                self.previous(&block, arena)
            };
        }
        block
    }

    fn newest_block(&self, arena: &Arena) -> Block {
        if self.blocks > 1 {
            Block::read(arena, self.newest)
        } else {
            self.first_block(self.newest)
        }
    }

    fn previous(&self, block: &Block, arena: &Arena) -> Block {
        if block.number > 1 {
            Block::read(arena, block.previous)
        } else {
            self.first_block(block.previous)
        }
    }

    fn first_block(&self, at: BlockAt) -> Block {
        Block {
            at,
            number: 0,
            base: 1,
            position: self.first,
            previous: at,
            jump: at,
        }
    }
}

/// A block's header.
#[derive(Clone, Copy, Debug)]
struct Block {
    at: BlockAt,
    /// Its number in the chain, from 0.
    number: u64,
    /// How many postings come before its own.
    base: u64,
    /// The last of them.
    position: u64,
    previous: BlockAt,
    /// A block with a header, further back; the second block's is the block itself.
    jump: BlockAt,
}

impl Block {
    fn read(arena: &Arena, at: BlockAt) -> Self {
        let bytes = arena.bytes(at);
        let numbers = u64_at(bytes, 16).unwrap_or_default();
        Self {
            at,
            number: numbers >> BASE_BITS,
            base: numbers & ((1 << BASE_BITS) - 1),
            position: u64_at(bytes, 8).unwrap_or_default(),
            previous: u32_at(bytes, 0).unwrap_or_default(),
            jump: u32_at(bytes, 4).unwrap_or_default(),
        }
    }

    /// Where the block after this one, which stands at `next`, jumps to: two jumps of the
    /// same length are followed by one over both.
    fn jump_of_next(&self, next: BlockAt, arena: &Arena) -> BlockAt {
        if self.number == 0 {
            return next;
        }
        let near = Self::read(arena, self.jump);
        let far = Self::read(arena, near.jump);
        if self.number - near.number == near.number - far.number {
            far.at
        } else {
            self.at
        }
    }

    /// Its deltas, and what stands after them.
    fn deltas<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        let header = if self.number > 0 { HEADER } else { 0 };
        arena.bytes(self.at).get(header..).unwrap_or_default()
    }

    /// Decodes as many postings as `into` takes, leaving out the first `skipped`.
    fn fill(&self, arena: &Arena, skipped: usize, into: &mut [u64]) {
        let mut deltas = self.deltas(arena);
        let mut at = self.position;
        for _ in 0..skipped {
            at += read_varint(&mut deltas).unwrap_or_default();
        }
        for slot in into {
            at += read_varint(&mut deltas).unwrap_or_default();
            *slot = at;
        }
    }
}

fn payload(number: u16) -> usize {
    let number = usize::from(number).min(PAYLOADS.len() - 1);
    PAYLOADS.get(number).copied().map_or(0, usize::from)
}

fn varint(mut value: u64, buffer: &mut [u8; VARINT]) -> &[u8] {
    let mut length = 0;
    for byte in buffer.iter_mut() {
        length += 1;
        *byte = low_bits(value);
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    buffer.get(..length).unwrap_or_default()
}

fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

fn read_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Mostly short, some beyond the largest block, deltas of one to six bytes.
    fn deltas() -> impl Strategy<Value = Vec<u64>> {
        let delta = prop_oneof![
            1u64..128,
            1u64..100_000,
            (1u64 << 28)..(1 << 35),
            Just(1 << 40)
        ];
        let short = proptest::collection::vec(delta, 1..400);
        let long = (1u64..50, 1usize..40_000).prop_map(|(delta, n)| vec![delta; n]);
        prop_oneof![3 => short, 1 => long]
    }

    fn stream(positions: &[u64], arena: &mut Arena) -> Postings {
        let mut postings = Postings::starting_at(Key::new(1), positions[0]);
        for position in &positions[1..] {
            postings.push(*position, arena).unwrap();
        }
        postings
    }

    fn sums(deltas: &[u64]) -> Vec<u64> {
        let sum = |sum: &mut u64, delta: &u64| {
            *sum += delta;
            Some(*sum)
        };
        deltas.iter().scan(0, sum).collect()
    }

    proptest! {
        #[test]
        fn postings_answer_as_a_plain_list_does(
            deltas in deltas(),
            probes in proptest::collection::vec((any::<prop::sample::Index>(), 0u64..3), 20),
        ) {
            let list = sums(&deltas);
            let mut arena = Arena::default();
            let postings = stream(&list, &mut arena);
            prop_assert_eq!(postings.count(), list.len() as u64);
            prop_assert_eq!(postings.first(), list[0]);
            for (index, off) in &probes {
                let position = (list[index.index(list.len())] + off).saturating_sub(1);
                let below = list.partition_point(|p| *p <= position) as u64;
                prop_assert_eq!(postings.count_at(position, &arena), below);
            }
            for pair in probes.windows(2) {
                let version = |(index, off): &(prop::sample::Index, u64)| {
                    index.index(list.len() + 2) as u64 + off
                };
                let (first, last) = (version(&pair[0]), version(&pair[1]));
                let mut range = vec![7];
                postings.range(first, last, &arena, &mut range);
                let expected = (1u64..).zip(&list)
                    .filter(|(v, _)| (first..=last).contains(v)).map(|(_, p)| *p);
                prop_assert!(range.into_iter().eq(std::iter::once(7).chain(expected)));
            }
        }
    }

    #[test]
    fn a_seek_in_a_long_chain_takes_few_steps() {
        let list: Vec<u64> = (1..=3_000_000).map(|i| i * 5).collect();
        let mut arena = Arena::default();
        let postings = stream(&list, &mut arena);
        let blocks = postings.newest_block(&arena).number;
        assert!(blocks > 700, "{blocks}");
        for version in (2..=3_000_000).step_by(1009) {
            let steps = std::cell::Cell::new(0);
            postings.find(&arena, |block| {
                steps.set(steps.get() + 1);
                block.base >= version
            });
            assert!(steps.get() < 60, "{} steps", steps.get());
        }
    }

    #[test]
    fn an_arena_that_is_full_is_told_of() {
        let mut arena = Arena::limited(1);
        let mut postings = Postings::starting_at(Key::new(1), 1);
        let pushed = (2..1 << 20).find(|position| postings.push(*position, &mut arena).is_none());
        assert!(
            pushed.is_some_and(|position| position > 200_000),
            "{pushed:?}"
        );
    }
}
