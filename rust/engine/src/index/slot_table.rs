//! A hash table of slots: many small hash tables of slot numbers, and the slots in pages.
//!
//! Up to four of seven buckets of a hash table are empty. To save memory, a bucket contains the 4
//! bytes of a slot number instead of a slot. The names are spread over [`SHARDS`] tables, because a
//! table that doubles rehashes all its buckets while readers wait: one shard takes only a 128th of
//! the time.

use hashbrown::HashTable;

use super::paged_vec::PagedVec;

/// The number of hash tables; a power of two.
const SHARDS: u64 = 128;

/// The 128-bit hash of a stream's name or of an idempotency key. Two halves, because a `u128`
/// would be aligned to 16 bytes and add padding to the slots that contain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameHash {
    high: u64,
    low: u64,
}

impl NameHash {
    pub(super) fn new(hash: u128) -> Self {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        Self {
            high: half(hash >> 64),
            low: half(hash),
        }
    }

    /// The low half selects the shard, the high half the bucket in it. No further hash is needed:
    /// `SipHash` with a secret spreads both halves evenly for all names.
    fn shard(self) -> usize {
        usize::try_from(self.low % SHARDS).unwrap_or_default()
    }
}

/// An item of a [`SlotTable`].
pub(super) trait Slot {
    /// The hash under which the slot is found.
    fn name_hash(&self) -> NameHash;
}

/// Slots by the hash of a name. A slot is never removed and never moves.
#[derive(Debug)]
pub(super) struct SlotTable<S> {
    shards: Box<[HashTable<u32>]>,
    slots: PagedVec<S>,
    limit: u32,
}

impl<S> Default for SlotTable<S> {
    fn default() -> Self {
        Self::limited(u32::MAX)
    }
}

impl<S> SlotTable<S> {
    /// An empty table of at most `limit` slots.
    pub(super) fn limited(limit: u32) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            slots: PagedVec::default(),
            limit,
        }
    }

    /// Whether less than a 64th of the slots is free. From then on new commits are refused, so that
    /// all commits that are already written can be indexed.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.slots.len() >= (self.limit - self.limit / 64) as usize
    }
}

impl<S: Slot> SlotTable<S> {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Return slot `i`, counted from 0 in the order in which the slots were added.
    pub(super) fn slot(&self, i: usize) -> Option<&S> {
        self.slots.get(i)
    }

    pub(super) fn get(&self, hash: NameHash) -> Option<&S> {
        self.slots.get(self.number(hash)? as usize)
    }

    pub(super) fn get_mut(&mut self, hash: NameHash) -> Option<&mut S> {
        let number = self.number(hash)?;
        self.slots.get_mut(number as usize)
    }

    fn number(&self, hash: NameHash) -> Option<u32> {
        let has_this_hash = |number: &u32| {
            self.slots
                .get(*number as usize)
                .is_some_and(|slot| slot.name_hash() == hash)
        };
        self.shards
            .get(hash.shard())?
            .find(hash.high, has_this_hash)
            .copied()
    }

    /// Add a slot; `None` when the table is full. The table must not contain its hash yet.
    pub(super) fn insert(&mut self, slot: S) -> Option<&mut S> {
        let hash = slot.name_hash();
        let number = u32::try_from(self.slots.len()).ok()?;
        if number >= self.limit {
            return None;
        }
        self.slots.push(slot);
        let slots = &self.slots;
        let rehash = |number: &u32| {
            slots
                .get(*number as usize)
                .map_or(0, |slot| slot.name_hash().high)
        };
        self.shards
            .get_mut(hash.shard())?
            .insert_unique(hash.high, number, rehash);
        self.slots.last_mut()
    }
}
