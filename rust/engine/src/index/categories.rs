//! The streams of each category, as the positions of their first events.
//!
//! The number of these positions is the category's version. A name like a UUID has a category of
//! its own, so a store may have as many categories as streams. The slot of a category therefore
//! has 24 bytes as long as the category has one stream; with the second stream, the category gets
//! [`Postings`] of its own.

use super::apply_error::IndexLimit;
use super::arena::Arena;
use super::paged_vec::PagedVec;
use super::postings::Postings;
use super::slot_table::{NameHash, Slot, SlotTable};

/// The bit of [`Category::place`] that marks the number of a category's postings.
const HAS_POSTINGS: u64 = 1 << 63;

/// All categories.
#[derive(Debug, Default)]
pub(super) struct Categories {
    slots: SlotTable<Category>,
    /// The postings of the categories that have more than one stream.
    postings: PagedVec<Postings>,
}

/// The slot of one category: 24 bytes.
#[derive(Debug)]
struct Category {
    hash: NameHash,
    /// The position of the first event of the only stream; or, with [`HAS_POSTINGS`], the number
    /// of the category's postings. No position is as large as the bit.
    place: u64,
}

impl Slot for Category {
    fn name_hash(&self) -> NameHash {
        self.hash
    }
}

/// The streams of one category.
enum Streams<'a> {
    None,
    /// The position of the first event of the only stream.
    One(u64),
    Many(&'a Postings),
}

impl Categories {
    /// Record a new stream whose first event is at `position`.
    pub(super) fn add(
        &mut self,
        hash: NameHash,
        position: u64,
        arena: &mut Arena,
    ) -> Result<(), IndexLimit> {
        let Some(category) = self.slots.get_mut(hash) else {
            let place = position;
            let inserted = self.slots.insert(Category { hash, place }).map(|_| ());
            // There are at most as many categories as streams, and the limits are the same.
            return inserted.ok_or(IndexLimit::Streams);
        };
        if category.place & HAS_POSTINGS == 0 {
            let first = category.place;
            category.place = HAS_POSTINGS | self.postings.len() as u64;
            self.postings.push(Postings::starting_at(hash, first));
        }
        let number = usize::try_from(category.place & !HAS_POSTINGS).unwrap_or(usize::MAX);
        let pushed = self
            .postings
            .get_mut(number)
            .and_then(|postings| postings.push(position, arena));
        pushed.ok_or(IndexLimit::Postings)
    }

    fn find(&self, hash: NameHash) -> Streams<'_> {
        let Some(category) = self.slots.get(hash) else {
            return Streams::None;
        };
        if category.place & HAS_POSTINGS == 0 {
            return Streams::One(category.place);
        }
        let number = usize::try_from(category.place & !HAS_POSTINGS).unwrap_or(usize::MAX);
        self.postings
            .get(number)
            .map_or(Streams::None, Streams::Many)
    }

    /// Return the number of the category's streams.
    pub(super) fn version(&self, hash: NameHash) -> u64 {
        match self.find(hash) {
            Streams::None => 0,
            Streams::One(_) => 1,
            Streams::Many(postings) => postings.count(),
        }
    }

    /// Return the number of the category's streams that had events at a position.
    pub(super) fn version_at(&self, hash: NameHash, position: u64, arena: &Arena) -> u64 {
        match self.find(hash) {
            Streams::None => 0,
            Streams::One(first) => u64::from(first <= position),
            Streams::Many(postings) => postings.count_at(position, arena),
        }
    }

    /// Append to `into` the positions of the first events of streams number `first..=last`,
    /// counted from 1.
    pub(super) fn positions(
        &self,
        hash: NameHash,
        (first, last): (u64, u64),
        arena: &Arena,
        into: &mut Vec<u64>,
    ) {
        match self.find(hash) {
            Streams::None => {}
            Streams::One(position) => {
                if first <= 1 && last >= 1 {
                    into.push(position);
                }
            }
            Streams::Many(postings) => postings.range(first, last, arena, into),
        }
    }
}
