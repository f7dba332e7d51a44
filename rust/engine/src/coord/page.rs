//! The memory that the sessions of one store share, accessed word by word.
//!
//! Nothing in the page is durable, and no recovery needs it: the first session creates the page
//! anew. While sessions share the page, it records the written end and the durable end of the log.
//! Each of these two records has two slots. A writer fills the slot that is not in use, then
//! publishes it by writing a sequence number. If the process dies before that write, readers still
//! find the previous record complete.
//!
//! All words are accessed with sequential consistency. Any program can write to the file, so each
//! record has a checksum, and a session stops as soon as the page contradicts itself or the log.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::reservation::{Reserved, STREAMS};
use crate::vfs::SharedPage;

/// The version of the layout of the page (the words below, and the words of a slot in `session.rs`)
/// and of the lock files. Processes with different versions never share a store.
pub(crate) const PROTOCOL: u64 = 4;
const MAGIC: u64 = u64::from_le_bytes(*b"EBCOORD\n");

// The indexes of the words. The methods of `CoordPage` document what each word contains. Words that
// different processes write at the same time are in separate cache lines.
const AT_MAGIC: usize = 0;
const AT_PROTOCOL: usize = 1;
const AT_SESSION: usize = 2;
const AT_STORE: [usize; 2] = [3, 4];
const AT_PHASE: usize = 5;
const AT_FILE_NUMBER: usize = 6;
const AT_KERNEL: usize = 7;
const AT_DEVICE: usize = 9;
const AT_POISON: usize = 8;
const AT_LOCKS: [usize; 4] = [10, 11, 12, 13];
const AT_ROOT: usize = 14;
const AT_JOIN_REQUESTS: usize = 16;
const AT_NOTIFICATIONS: usize = 24;
const AT_LISTENERS: usize = 32;
const AT_NEXT_TICKET: usize = 40;
const AT_SERVING: usize = 48;
const AT_DIRTY: usize = 56;
const AT_WRITER: usize = 57;
const AT_CLOCK: usize = 58;
const AT_SYNC_BUSY: usize = 64;
const AT_SYNCER: usize = 65;
const AT_GENERATION: usize = 72;
const AT_TAIL: usize = 80;
const AT_DURABLE: usize = 112;
/// The wait slots, on which waiting writers sleep. A ticket's number selects its slot. The first
/// word of a slot changes when a ticket is served; the second counts the sleeping sessions.
const AT_WAIT_SLOTS: usize = 192;
const WAIT_SLOTS: usize = 16;
const WAIT_SLOT_WORDS: usize = 8;
/// The reservation: its id, the number of its session, its end, and a part of each stream's hash.
const AT_RESERVED: usize = 448;
/// The slots of the sessions.
const AT_SLOTS: usize = 512;

/// Maximum number of sessions of a store.
pub(crate) const MAX_SESSIONS: usize = 240;
/// Number of words of one slot.
pub(crate) const SLOT_WORDS: usize = 32;

/// How the sessions of a store hold it at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The page is being created, or its sessions have ended.
    Idle,
    /// One session holds the store, and answers join requests.
    Sole,
    /// Any number of sessions hold the store.
    Shared,
}

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

/// The inode numbers of the lock files boot, write, sync and maint.
pub(crate) type LockNumbers = [u64; 4];

const RECORD: usize = 8;

impl LogPoint {
    fn words(&self, seed: u64) -> [u64; RECORD] {
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
        words[RECORD - 1] = checksum(&words, seed);
        words
    }

    fn of_words(words: &[u64; RECORD], seed: u64) -> Option<Self> {
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

fn checksum(words: &[u64; RECORD], seed: u64) -> u64 {
    let mut bytes = [0; (RECORD - 1) * 8];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_64_with_seed(&bytes, seed)
}

/// The shared page, with a method for each word.
#[derive(Clone, Debug)]
pub(crate) struct CoordPage {
    words: Arc<dyn SharedPage>,
    /// The random number of the session that created the page.
    session: u64,
}

/// Why a page can't be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unjoinable {
    /// The file is not a page, or is the page of another store, or is a copy of a page.
    Foreign,
    /// The sessions of the page use this other version of the protocol.
    Protocol(u64),
}

impl CoordPage {
    /// Fill in an empty page. No other session joins before [`CoordPage::set_phase`] is called.
    pub(crate) fn create(
        words: Arc<dyn SharedPage>,
        session: u64,
        store: [u8; 16],
        kernel: u64,
        locks: LockNumbers,
        root: u64,
    ) -> io::Result<Self> {
        let number = words.number()?;
        let page = Self { words, session };
        page.words.store(AT_FILE_NUMBER, number);
        page.words.store(AT_KERNEL, kernel);
        page.words.store(AT_DEVICE, page.words.device()?);
        page.words.store(AT_ROOT, root);
        let store = AT_STORE.into_iter().zip(halves(store));
        for (at, word) in store.chain(AT_LOCKS.into_iter().zip(locks)) {
            page.words.store(at, word);
        }
        page.words.store(AT_PROTOCOL, PROTOCOL);
        page.words.store(AT_SESSION, session);
        page.words.store(AT_MAGIC, MAGIC);
        Ok(page)
    }

    /// Open the page of the store directory whose inode number is `root` (0 if unknown).
    ///
    /// A copy of the directory that is made of hard links has the same page and lock files, but is
    /// another store. If sessions of the two directories shared the page, they would list segments
    /// in different directories.
    pub(crate) fn of(
        words: Arc<dyn SharedPage>,
        store: [u8; 16],
        root: u64,
    ) -> Result<Self, Unjoinable> {
        if words.load(AT_MAGIC) != MAGIC {
            return Err(Unjoinable::Foreign);
        }
        let protocol = words.load(AT_PROTOCOL);
        if protocol != PROTOCOL {
            return Err(Unjoinable::Protocol(protocol));
        }
        // Sessions that use a copy of the page and sessions that use the original would not see
        // each other.
        let is_itself = words
            .number()
            .is_ok_and(|number| number == words.load(AT_FILE_NUMBER));
        let is_elsewhere = root != 0 && words.load(AT_ROOT) != root;
        if !is_itself || is_elsewhere || AT_STORE.map(|at| words.load(at)) != halves(store) {
            return Err(Unjoinable::Foreign);
        }
        let session = words.load(AT_SESSION);
        Ok(Self { words, session })
    }

    /// Whether the page was created under another kernel, as far as that can be detected: both the
    /// number of the kernel and the device number of the file differ from those in the page. The
    /// kernel number alone proves nothing, because a container may see a number of its own. A
    /// container that has the same file from the same kernel sees the same device number.
    pub(crate) fn is_foreign_to(&self, kernel: u64) -> bool {
        let differs = |word: usize, own: u64| {
            let recorded = self.words.load(word);
            recorded != 0 && own != 0 && recorded != own
        };
        differs(AT_KERNEL, kernel) && differs(AT_DEVICE, self.words.device().unwrap_or(0))
    }

    /// Return the inode numbers of the lock files that the sessions of this page use. A process
    /// that locks other files at these paths would not be kept out by these sessions' locks.
    pub(crate) fn locks(&self) -> LockNumbers {
        AT_LOCKS.map(|at| self.words.load(at))
    }

    /// Whether this is still the page that this session has joined, at the path where other
    /// sessions look for it.
    pub(crate) fn is_ours(&self) -> bool {
        self.has_our_session() && self.words.is_in_place().unwrap_or(false)
    }

    /// Whether the page still contains the random number that it had when this session joined.
    pub(crate) fn has_our_session(&self) -> bool {
        self.words.load(AT_MAGIC) == MAGIC
            && self.words.load(AT_PROTOCOL) == PROTOCOL
            && self.words.load(AT_SESSION) == self.session
    }

    /// Invalidate the page, because it contradicts the log or is not at its path any more. Wake all
    /// sessions, so that each of them stops.
    pub(crate) fn invalidate(&self) {
        if self.words.load(AT_SESSION) == self.session {
            self.words.store(AT_MAGIC, 0);
        }
        for word in [AT_NOTIFICATIONS, AT_JOIN_REQUESTS] {
            self.words.add(word, 1);
            self.words.wake(word);
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.words.load(AT_PHASE) {
            1 => Phase::Sole,
            2 => Phase::Shared,
            _ => Phase::Idle,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        let word = match phase {
            Phase::Idle => 0,
            Phase::Sole => 1,
            Phase::Shared => 2,
        };
        self.words.store(AT_PHASE, word);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.words.load(AT_POISON) != 0
    }

    pub(crate) fn poison(&self) {
        self.words.store(AT_POISON, 1);
    }

    // --- the written end and the durable end ---

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

    /// Return the seed of a record's checksum. The seed includes the sequence number, so that a
    /// changed number does not make an older record valid.
    fn seed(&self, sequence: u64) -> u64 {
        self.session.wrapping_add(sequence)
    }

    /// Return the end of the write in progress, or 0 if there is none. If a session acquires the
    /// write lock and this value is not 0, the previous holder died during its write.
    pub(crate) fn dirty(&self) -> u64 {
        self.words.load(AT_DIRTY)
    }

    pub(crate) fn set_dirty(&self, end: u64) {
        self.words.store(AT_DIRTY, end);
    }

    /// Whether a sync is in progress. If a session acquires the sync lock while this flag is set,
    /// the previous holder died during its sync, and may have received the only report of a failed
    /// write.
    pub(crate) fn is_sync_busy(&self) -> bool {
        self.words.load(AT_SYNC_BUSY) != 0
    }

    pub(crate) fn set_sync_busy(&self, busy: bool) {
        self.words.store(AT_SYNC_BUSY, u64::from(busy));
    }

    /// Return the number of the session that acquired the write lock last, counted from 1. Used
    /// only in error messages.
    pub(crate) fn writer(&self) -> u64 {
        self.words.load(AT_WRITER)
    }

    /// Return the wall clock minus the time since boot, in microseconds, as accepted at the last
    /// commit, or `None` before the first commit. Only the holder of the write lock changes this
    /// value.
    pub(crate) fn clock(&self) -> Option<i64> {
        let ahead = self.words.load(AT_CLOCK).cast_signed();
        (ahead != 0).then_some(ahead)
    }

    pub(crate) fn set_clock(&self, ahead: i64) {
        self.words.store(AT_CLOCK, ahead.cast_unsigned());
    }

    pub(crate) fn set_writer(&self, session: u64) {
        self.words.store(AT_WRITER, session);
    }

    /// Return the number of the session that acquired the sync lock last, counted from 1. Used only
    /// in error messages.
    pub(crate) fn syncer(&self) -> u64 {
        self.words.load(AT_SYNCER)
    }

    pub(crate) fn set_syncer(&self, session: u64) {
        self.words.store(AT_SYNCER, session);
    }

    /// Return the generation of the live manifest.
    pub(crate) fn generation(&self) -> u64 {
        self.words.load(AT_GENERATION)
    }

    pub(crate) fn set_generation(&self, generation: u64) {
        self.words.store(AT_GENERATION, generation);
    }

    // --- join requests and notifications ---

    /// Send a join request to the session that holds the store alone.
    pub(crate) fn request_join(&self) {
        self.words.add(AT_JOIN_REQUESTS, 1);
        self.words.wake(AT_JOIN_REQUESTS);
    }

    pub(crate) fn join_requests(&self) -> u64 {
        self.words.load(AT_JOIN_REQUESTS)
    }

    pub(crate) fn wait_for_join_request(&self, seen: u64, timeout: Duration) {
        self.words.wait(AT_JOIN_REQUESTS, seen, timeout);
    }

    /// Notify all sessions that more is durable or that the store has stopped.
    pub(crate) fn notify(&self) {
        self.words.add(AT_NOTIFICATIONS, 1);
        // Sequentially consistent: a listener is counted before it reads the notifications, and
        // this thread increments the notifications before it reads the count. So either the
        // listener sees the notification, or this thread sees the listener. With a weaker ordering
        // both could miss the change, and the listener would sleep until its timeout. A process
        // that dies while it listens remains counted, which costs one system call per notification.
        if self.words.load(AT_LISTENERS) > 0 {
            self.words.wake(AT_NOTIFICATIONS);
        }
    }

    pub(crate) fn notifications(&self) -> u64 {
        self.words.load(AT_NOTIFICATIONS)
    }

    pub(crate) fn wait_for_notification(&self, seen: u64, timeout: Duration) {
        self.words.add(AT_LISTENERS, 1);
        self.words.wait(AT_NOTIFICATIONS, seen, timeout);
        self.words.add(AT_LISTENERS, u64::MAX);
    }

    // --- tickets of the write lock ---

    pub(crate) fn draw_ticket(&self) -> u64 {
        self.words.add(AT_NEXT_TICKET, 1)
    }

    pub(crate) fn serving(&self) -> u64 {
        self.words.load(AT_SERVING)
    }

    /// Serve a ticket and wake the session that has it. Do nothing if this ticket or a later one
    /// has been served already.
    pub(crate) fn serve(&self, ticket: u64) {
        if self.words.raise(AT_SERVING, ticket) >= ticket {
            return;
        }
        let wait_slot = wait_slot(ticket);
        self.words.add(wait_slot, 1);
        // The ordering is the same as in `notify`: the session is counted before it reads the first
        // word.
        if self.words.load(wait_slot + 1) > 0 {
            self.words.wake(wait_slot);
        }
    }

    /// Return the value for [`CoordPage::wait_for_turn`]. Read it before [`CoordPage::serving`]: if
    /// the slot changes between the two reads, `wait_for_turn` returns at once.
    pub(crate) fn wait_slot_value(&self, ticket: u64) -> u64 {
        self.words.load(wait_slot(ticket))
    }

    pub(crate) fn wait_for_turn(&self, ticket: u64, seen: u64, timeout: Duration) {
        let wait_slot = wait_slot(ticket);
        self.words.add(wait_slot + 1, 1);
        self.words.wait(wait_slot, seen, timeout);
        self.words.add(wait_slot + 1, u64::MAX);
    }

    // --- reservations ---

    /// Return the recorded reservation, even if it is no longer in force. If another session
    /// records a reservation at the same time, the result may mix the words of both. The only
    /// effect is that some appends wait for a short time.
    pub(crate) fn reserved(&self) -> Option<Reserved> {
        let id = self.words.load(AT_RESERVED);
        if id == 0 {
            return None;
        }
        Some(Reserved {
            id,
            session: self.words.load(AT_RESERVED + 1),
            until: self.words.load(AT_RESERVED + 2),
            streams: std::array::from_fn(|i| self.words.load(AT_RESERVED + 3 + i)),
        })
    }

    /// Put `new` in place of the reservation whose id is `previous` (0 if there is none). Return
    /// `false` if another reservation has been recorded meanwhile.
    pub(crate) fn reserve(&self, previous: u64, new: &Reserved) -> bool {
        if !self.words.exchange(AT_RESERVED, previous, new.id) {
            return false;
        }
        // The end is 0 until all other words are stored, so the reservation is not in force before.
        self.words.store(AT_RESERVED + 2, 0);
        self.words.store(AT_RESERVED + 1, new.session);
        for (i, stream) in new.streams.iter().enumerate() {
            self.words.store(AT_RESERVED + 3 + i, *stream);
        }
        self.words.store(AT_RESERVED + 2, new.until);
        true
    }

    pub(crate) fn release(&self, id: u64) {
        self.words.exchange(AT_RESERVED, id, 0);
    }

    // --- sessions ---

    pub(crate) fn slot_word(&self, slot: usize, word: usize) -> u64 {
        self.words.load(AT_SLOTS + slot * SLOT_WORDS + word)
    }

    pub(crate) fn set_slot_word(&self, slot: usize, word: usize, value: u64) {
        self.words.store(AT_SLOTS + slot * SLOT_WORDS + word, value);
    }
}

fn slot(at: usize, sequence: u64) -> usize {
    let second = usize::from(!sequence.is_multiple_of(2));
    at + RECORD + second * RECORD
}

fn wait_slot(ticket: u64) -> usize {
    AT_WAIT_SLOTS
        + usize::try_from(ticket % WAIT_SLOTS as u64).unwrap_or_default() * WAIT_SLOT_WORDS
}

fn halves(uuid: [u8; 16]) -> [u64; 2] {
    let number = u128::from_le_bytes(uuid);
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    [half(number), half(number >> 64)]
}

const _: () = assert!(AT_WAIT_SLOTS + WAIT_SLOTS * WAIT_SLOT_WORDS <= AT_RESERVED);
const _: () = assert!(AT_RESERVED + 3 + STREAMS <= AT_SLOTS);
const _: () = assert!(AT_SLOTS + MAX_SESSIONS * SLOT_WORDS <= crate::vfs::PAGE_WORDS);
const _: () =
    assert!(AT_DURABLE + 3 * RECORD <= AT_WAIT_SLOTS && AT_TAIL + 3 * RECORD <= AT_DURABLE);
