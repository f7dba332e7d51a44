//! The written end and the durable end of the log, as recorded in the shared page.
//!
//! Each of these two records has two slots. A writer fills the slot that is not in use, then
//! publishes it by writing a sequence number. If the process dies before that write, readers still
//! find the previous record complete. Each record has a checksum, because any program can write to
//! the page.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::page::{AT_DURABLE, AT_TAIL, CoordPage, RECORD_WORDS};

/// A point of the log: the end of a frame, or the first address of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogPoint {
    pub(crate) address: u64,
    /// The end of the last frame before the point.
    pub(crate) end: u64,
    pub(crate) next_position: u64,
    pub(crate) chain: u64,
    /// The ordinal of the segment that contains the address.
    pub(crate) ordinal: u64,
    pub(crate) commit_time: u64,
    /// Whether the last frame is a sync marker that covers all frames before it.
    pub(crate) ends_in_marker: bool,
}

impl LogPoint {
    fn words(&self, seed: u64) -> [u64; RECORD_WORDS] {
        let mut words = [
            self.address,
            self.end,
            self.next_position,
            self.chain,
            self.ordinal,
            self.commit_time,
            u64::from(self.ends_in_marker),
            0,
        ];
        words[RECORD_WORDS - 1] = checksum(&words, seed);
        words
    }

    fn of_words(words: &[u64; RECORD_WORDS], seed: u64) -> Option<Self> {
        let [
            address,
            end,
            next_position,
            chain,
            ordinal,
            commit_time,
            marked,
            check,
        ] = *words;
        if check != checksum(words, seed) {
            return None;
        }
        Some(Self {
            address,
            end,
            next_position,
            chain,
            ordinal,
            commit_time,
            ends_in_marker: marked == 1,
        })
    }
}

fn checksum(words: &[u64; RECORD_WORDS], seed: u64) -> u64 {
    let mut bytes = [0; (RECORD_WORDS - 1) * 8];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_64_with_seed(&bytes, seed)
}

impl CoordPage {
    /// Return the written end of the log, or `None` if its record is damaged or missing.
    pub(crate) fn tail(&self) -> Option<LogPoint> {
        self.read(AT_TAIL, |sequence| self.record(AT_TAIL, sequence))
    }

    /// Publish the written end. The caller holds the write lock.
    pub(crate) fn publish_tail(&self, tail: &LogPoint) {
        self.publish(AT_TAIL, tail);
    }

    /// Return the durable end of the log, or `None` if its record is damaged or missing.
    ///
    /// If the record after the published one is complete, that record is returned instead: the log
    /// was durable up to its address before the record was written. So a sequence number that
    /// another program has set back by one hides no commit. A number that was set back further
    /// names a record that has been overwritten, which the checksum detects.
    pub(crate) fn durable(&self) -> Option<LogPoint> {
        self.read(AT_DURABLE, |sequence| {
            let named = self.record(AT_DURABLE, sequence)?;
            let next = self.record(AT_DURABLE, sequence.wrapping_add(1));
            Some(next.unwrap_or(named))
        })
    }

    /// Return the sequence number of [`CoordPage::durable`] and the higher of the addresses in its
    /// two slots, without verifying the records.
    pub(crate) fn durable_unchecked(&self) -> (u64, u64) {
        let sequence = self.words.load(AT_DURABLE);
        let [one, other] = [0, 1].map(|sequence| self.words.load(slot(AT_DURABLE, sequence)));
        (sequence, one.max(other))
    }

    /// Publish the durable end. The caller holds the sync lock.
    pub(crate) fn publish_durable(&self, durable: &LogPoint) {
        // If the next slot already has a complete record, the previous leader died before it
        // published the sequence number, or another program has set the number back. Publish that
        // record first. Otherwise a reader could find it half overwritten and return the older one.
        let next = self.words.load(AT_DURABLE).wrapping_add(1);
        if self.record(AT_DURABLE, next).is_some() {
            self.words.store(AT_DURABLE, next);
        }
        self.publish(AT_DURABLE, durable);
    }

    fn publish(&self, at: usize, point: &LogPoint) {
        let next = self.words.load(at).wrapping_add(1);
        let slot = slot(at, next);
        for (i, word) in point.words(self.seed(next)).into_iter().enumerate() {
            self.words.store(slot + i, word);
        }
        self.words.store(at, next);
    }

    /// Call `read` until the sequence number is the same before and after the call, so that the
    /// record was not overwritten during the call.
    fn read(&self, at: usize, read: impl Fn(u64) -> Option<LogPoint>) -> Option<LogPoint> {
        loop {
            let sequence = self.words.load(at);
            let record = read(sequence);
            if self.words.load(at) == sequence {
                return record;
            }
        }
    }

    /// Return the record with this sequence number, if its slot is complete.
    fn record(&self, at: usize, sequence: u64) -> Option<LogPoint> {
        let slot = slot(at, sequence);
        let words = std::array::from_fn(|i| self.words.load(slot + i));
        LogPoint::of_words(&words, self.seed(sequence))
    }

    /// Return the seed of a record's checksum. The seed includes the sequence number, whose parity
    /// selects one of the two slots. If a damaged number selects the slot of an older record, the
    /// checksum of that record does not match.
    fn seed(&self, sequence: u64) -> u64 {
        self.session.wrapping_add(sequence)
    }
}

fn slot(at: usize, sequence: u64) -> usize {
    let second = usize::from(!sequence.is_multiple_of(2));
    at + RECORD_WORDS + second * RECORD_WORDS
}
