//! Postings: the positions of one stream's events, ascending and delta-coded.
//!
//! The first and the last position are in the stream's slot, so a stream of one or two events,
//! the most common kind, needs no further memory. When a stream gets its third event, all
//! positions but the first are stored as varint deltas in a chain of blocks:
//!
//! ```text
//! slot: first, last, count, newest ──┐
//!                                    v
//! block 0 <── block 1 <── block 2 <── block 3       each also has a jump pointer
//! ```
//!
//! The chain can only be followed from the newest block to the oldest. So that a version or a
//! position in a long stream is found in O(log n) steps, each block also has a jump pointer to
//! a block further back. The lengths of the jumps follow the skew-binary scheme of E. W. Myers,
//! "An applicative random-access stack", Information Processing Letters 17 (1983): a jump
//! pointer never changes after its block is made, which an append-only structure needs.

use super::arena::{Arena, BlockOffset};
use super::slot_table::{NameHash, Slot};
use crate::bytes::{u32_at, u64_at};

/// Bytes of deltas in the first block, the second, and so on; all further blocks are as large
/// as the last one in this list. The sizes are chosen so that slot and blocks never take more
/// than 60 bytes a stream and 12 bytes an event, even when every delta takes five bytes.
const PAYLOADS: [u16; 25] = [
    20, 28, 36, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1280,
    1536, 2048, 2560, 3072, 4072,
];

/// Bytes of the header of every block but a stream's first:
///
/// | bytes | content |
/// |---|---|
/// | 0..4 | the previous block |
/// | 4..8 | the block that the jump pointer names |
/// | 8..16 | the position before the first delta |
/// | 16..24 | low [`BASE_BITS`] bits: the number of postings before; high bits: the block's number |
///
/// The first block has no header: the posting before its first delta is the stream's first
/// event, which the slot contains.
const HEADER: usize = 24;
/// 40 and 24 bits are enough: an arena of 16 GiB has room for less than 2^34 deltas, and for
/// less than 2^24 blocks of one chain.
const BASE_BITS: u32 = 40;

/// The maximum length of a varint in bytes.
const VARINT: usize = 10;

/// The slot of one stream: 48 bytes.
#[derive(Debug)]
pub(super) struct Postings {
    stream_hash: NameHash,
    /// The position of the first event.
    first: u64,
    /// The position of the last event.
    last: u64,
    /// The number of events, which is the stream's version.
    count: u64,
    /// The newest block; meaningless while `blocks` is 0.
    newest: BlockOffset,
    /// Bytes of deltas in the newest block.
    used: u16,
    /// The number of blocks. It stops at the maximum of a `u16`: from the 25th block on, all blocks
    /// have the same size, so a higher number makes no difference.
    blocks: u16,
}

impl Slot for Postings {
    fn name_hash(&self) -> NameHash {
        self.stream_hash
    }
}

impl Postings {
    /// The postings of a stream whose first event is at `position`.
    pub(super) fn starting_at(stream_hash: NameHash, position: u64) -> Self {
        Self {
            stream_hash,
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

    /// Append the next posting; `None` when the arena is full.
    pub(super) fn push(&mut self, position: u64, arena: &mut Arena) -> Option<()> {
        if self.count == 2 {
            // The positions of the first two events were only in the slot until now.
            self.store(1, self.first, self.last, arena)?;
        }
        if self.count >= 2 {
            self.store(self.count, self.last, position, arena)?;
        }
        self.last = position;
        self.count += 1;
        Some(())
    }

    /// Append posting number `base + 1` to the blocks. `previous` is the position of posting number
    /// `base`.
    fn store(&mut self, base: u64, previous: u64, position: u64, arena: &mut Arena) -> Option<()> {
        let mut buffer = [0; VARINT];
        let delta = varint(position.saturating_sub(previous), &mut buffer);
        if delta.len() > self.room() {
            self.add_block(base, previous, arena)?;
        }
        let header = if self.blocks > 1 { HEADER } else { 0 };
        arena.put(self.newest, header + usize::from(self.used), delta);
        self.used += u16::try_from(delta.len()).ok()?;
        Some(())
    }

    /// The number of free bytes in the newest block.
    fn room(&self) -> usize {
        self.blocks
            .checked_sub(1)
            .map_or(0, |number| payload(number) - usize::from(self.used))
    }

    fn add_block(&mut self, base: u64, position: u64, arena: &mut Arena) -> Option<()> {
        let header = if self.blocks == 0 { 0 } else { HEADER };
        let added = arena.allocate(header + payload(self.blocks))?;
        if self.blocks > 0 {
            let previous = self.newest_block(arena);
            let number = (previous.number + 1) << BASE_BITS;
            arena.put(added, 0, &previous.offset.to_le_bytes());
            arena.put(added, 4, &previous.jump_of_next(added, arena).to_le_bytes());
            arena.put(added, 8, &position.to_le_bytes());
            arena.put(added, 16, &(number | base).to_le_bytes());
        }
        (self.newest, self.used) = (added, 0);
        self.blocks = self.blocks.saturating_add(1);
        Some(())
    }

    /// Return the number of postings at or below `position`.
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
        let block = self.newest_that_is_not(arena, |block| block.position > position);
        let (mut count, mut posting) = (block.base, block.position);
        let mut deltas = block.deltas(arena);
        while let Some(delta) = read_varint(&mut deltas) {
            posting += delta;
            // `last` is above `position`, so the loop ends here before it reads past the deltas.
            if posting > position {
                break;
            }
            count += 1;
        }
        count
    }

    /// Append the postings of versions `first..=last` (counted from 1) to `into`.
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

    /// Append the postings of versions that are stored in blocks: from version 2, in a stream of
    /// more than two events. The chain leads from the newest block to the oldest, so `into` is
    /// extended first, and the new part is filled from its end.
    fn stored_range(&self, first: u64, last: u64, arena: &Arena, into: &mut Vec<u64>) {
        let begin = into.len();
        let wanted = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        into.resize(begin.saturating_add(wanted), 0);
        let mut rest = into.get_mut(begin..).unwrap_or_default();
        let mut block = self.newest_that_is_not(arena, |block| block.base >= last);
        loop {
            // `skipped`: the number of postings in this block before the range. `older`: the number
            // of postings in the range before this block.
            let skipped =
                usize::try_from((first - 1).saturating_sub(block.base)).unwrap_or(usize::MAX);
            let older = usize::try_from((block.base + 1).saturating_sub(first)).unwrap_or_default();
            let (older, newer) = rest.split_at_mut_checked(older).unwrap_or_default();
            block.decode(arena, skipped, newer);
            if older.is_empty() {
                return;
            }
            rest = older;
            block = self.previous(&block, arena);
        }
    }

    /// Return the newest block for which `beyond` is false. If `beyond` is true for a block, it
    /// must be true for all later blocks.
    fn newest_that_is_not(&self, arena: &Arena, beyond: impl Fn(&Block) -> bool) -> Block {
        let mut block = self.newest_block(arena);
        while block.number > 0 && beyond(&block) {
            // Jump if `beyond` is still true for the target; otherwise go back by one block. The
            // first block has no header, so no jump leads to it.
            let target = if block.number > 1 {
                Block::read(arena, block.jump)
            } else {
                block
            };
            block = if target.number < block.number && beyond(&target) {
                target
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

    fn first_block(&self, offset: BlockOffset) -> Block {
        Block {
            offset,
            number: 0,
            base: 1,
            position: self.first,
            previous: offset,
            jump: offset,
        }
    }
}

/// The header of a block, decoded.
#[derive(Clone, Copy, Debug)]
struct Block {
    offset: BlockOffset,
    /// The block's number in the chain, counted from 0.
    number: u64,
    /// The number of postings before the block.
    base: u64,
    /// The position of the last posting before the block.
    position: u64,
    previous: BlockOffset,
    /// The target of the jump pointer: a block with a header, further back. The second block,
    /// which has no such block before it, points to itself.
    jump: BlockOffset,
}

impl Block {
    fn read(arena: &Arena, offset: BlockOffset) -> Self {
        let bytes = arena.bytes(offset);
        let numbers = u64_at(bytes, 16).unwrap_or_default();
        Self {
            offset,
            number: numbers >> BASE_BITS,
            base: numbers & ((1 << BASE_BITS) - 1),
            position: u64_at(bytes, 8).unwrap_or_default(),
            previous: u32_at(bytes, 0).unwrap_or_default(),
            jump: u32_at(bytes, 4).unwrap_or_default(),
        }
    }

    /// Return the jump pointer of the next block, which is at `next`. Myers' rule: if the last two
    /// jumps have the same length, the next block jumps over both of them; otherwise it jumps to
    /// this block.
    fn jump_of_next(&self, next: BlockOffset, arena: &Arena) -> BlockOffset {
        if self.number == 0 {
            return next;
        }
        let near = Self::read(arena, self.jump);
        let far = Self::read(arena, near.jump);
        if self.number - near.number == near.number - far.number {
            far.offset
        } else {
            self.offset
        }
    }

    /// The block's deltas, followed by the rest of its arena page.
    fn deltas<'a>(&self, arena: &'a Arena) -> &'a [u8] {
        let header = if self.number > 0 { HEADER } else { 0 };
        arena.bytes(self.offset).get(header..).unwrap_or_default()
    }

    /// Fill `into` with the block's postings after the first `skipped` ones.
    fn decode(&self, arena: &Arena, skipped: usize, into: &mut [u64]) {
        let mut deltas = self.deltas(arena);
        let mut posting = self.position;
        for _ in 0..skipped {
            posting += read_varint(&mut deltas).unwrap_or_default();
        }
        for slot in into {
            posting += read_varint(&mut deltas).unwrap_or_default();
            *slot = posting;
        }
    }
}

/// The bytes of deltas in the block with this number.
fn payload(number: u16) -> usize {
    let number = usize::from(number).min(PAYLOADS.len() - 1);
    PAYLOADS.get(number).copied().map_or(0, usize::from)
}

/// Encode a number as LEB128: seven bits a byte, the lowest first, the high bit set in all bytes
/// but the last.
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

    /// Mostly short lists; some of them need more blocks than there are block sizes. The deltas
    /// take one to six bytes.
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
        let mut postings = Postings::starting_at(NameHash::new(1), positions[0]);
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
        fn postings_return_what_a_plain_list_returns(
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
            postings.newest_that_is_not(&arena, |block| {
                steps.set(steps.get() + 1);
                block.base >= version
            });
            assert!(steps.get() < 60, "{} steps", steps.get());
        }
    }

    #[test]
    fn a_push_into_a_full_arena_is_refused() {
        let mut arena = Arena::limited(1);
        let mut postings = Postings::starting_at(NameHash::new(1), 1);
        let pushed = (2..1 << 20).find(|position| postings.push(*position, &mut arena).is_none());
        assert!(
            pushed.is_some_and(|position| position > 200_000),
            "{pushed:?}"
        );
    }
}
