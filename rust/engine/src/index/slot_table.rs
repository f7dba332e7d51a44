//! Slots by 128-bit key: small hash tables of slot numbers, and the slots in pages.
//!
//! A bucket of a hash table is empty up to four times in seven, so it holds 4 bytes and not a
//! slot. Keys are spread over many tables because a table that doubles keeps everybody
//! waiting while it does.

use hashbrown::HashTable;

use super::paged_vec::Paged;

/// Bits of a key that choose its table.
const SHARD_BITS: u32 = 7;

/// A 128-bit key: a hash already, so hashing it again buys nothing. Two halves, because a
/// `u128` would be aligned to 16 bytes and pad the slots that hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    high: u64,
    low: u64,
}

impl Key {
    pub(super) fn new(key: u128) -> Self {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        Self {
            high: half(key >> 64),
            low: half(key),
        }
    }

    fn shard(self) -> usize {
        usize::try_from(self.low & ((1 << SHARD_BITS) - 1)).unwrap_or_default()
    }
}

/// What is kept under a key.
pub(super) trait Slot {
    fn key(&self) -> Key;
}

/// Slots by key; a slot is never removed.
#[derive(Debug)]
pub(super) struct SlotTable<S> {
    shards: Box<[HashTable<u32>]>,
    slots: Paged<S>,
    limit: u32,
}

impl<S> Default for SlotTable<S> {
    fn default() -> Self {
        Self::limited(u32::MAX)
    }
}

impl<S> SlotTable<S> {
    /// A table of this many slots, at most.
    pub(super) fn limited(limit: u32) -> Self {
        Self {
            shards: (0..1 << SHARD_BITS).map(|_| HashTable::new()).collect(),
            slots: Paged::default(),
            limit,
        }
    }

    /// Whether so few slots are left that nothing new should be begun.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.slots.len() >= (self.limit - self.limit / 64) as usize
    }
}

impl<S: Slot> SlotTable<S> {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The `i`th slot that was added.
    pub(super) fn slot(&self, i: usize) -> Option<&S> {
        self.slots.get(i)
    }

    pub(super) fn get(&self, key: Key) -> Option<&S> {
        self.slots.get(self.number(key)? as usize)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut S> {
        let number = self.number(key)?;
        self.slots.get_mut(number as usize)
    }

    fn number(&self, key: Key) -> Option<u32> {
        let is_here = |number: &u32| {
            self.slots
                .get(*number as usize)
                .is_some_and(|slot| slot.key() == key)
        };
        self.shards
            .get(key.shard())?
            .find(key.high, is_here)
            .copied()
    }

    /// Adds a slot whose key is not there yet; `None` when the table is full.
    pub(super) fn insert(&mut self, slot: S) -> Option<&mut S> {
        let key = slot.key();
        let number = u32::try_from(self.slots.len()).ok()?;
        if number >= self.limit {
            return None;
        }
        self.slots.push(slot);
        let slots = &self.slots;
        let rehash = |number: &u32| {
            slots
                .get(*number as usize)
                .map_or(0, |slot| slot.key().high)
        };
        self.shards
            .get_mut(key.shard())?
            .insert_unique(key.high, number, rehash);
        self.slots.last_mut()
    }
}
