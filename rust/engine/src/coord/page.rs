//! The memory that the sessions of one store share, accessed word by word: the table of its words,
//! its identity, and the state of the store.
//!
//! Nothing in the page is durable, and no recovery needs it: the first session creates the page
//! anew. All words are accessed with sequential consistency. Any program can write to the file, so
//! a session stops as soon as the page contradicts itself or the log.
//!
//! Further methods of [`CoordPage`] are in the file of the job that their words serve:
//!
//! | file | words |
//! |---|---|
//! | `log_ends` | the written end and the durable end of the log |
//! | `notifications` | the notify counter, by which a session reports new commits |
//! | `join_requests` | requests to share a store that one session holds alone |
//! | `ticket_lock` | the tickets of the write lock, and the wait slots |
//! | `reservation` | the reservation of streams |
//! | `session` | the slots of the sessions |

use std::io;
use std::sync::Arc;

use crate::vfs::SharedPage;

/// The version of the layout of the page and of the lock files. The layout of the page is the table
/// below, with the words of one end of the log (`log_ends`), of the reservation (`reservation`) and
/// of a session's slot (`session`). Processes with different versions never share a store.
pub(crate) const PROTOCOL: u64 = 4;
const MAGIC: u64 = u64::from_le_bytes(*b"EBCOORD\n");

// The table of the words: the index of each. The methods of `CoordPage` document what each word
// contains. Words that different processes write at the same time are in separate cache lines.
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
pub(super) const AT_JOIN_REQUESTS: usize = 16;
pub(super) const AT_NOTIFICATIONS: usize = 24;
pub(super) const AT_LISTENERS: usize = 32;
pub(super) const AT_NEXT_TICKET: usize = 40;
pub(super) const AT_SERVING: usize = 48;
const AT_DIRTY: usize = 56;
const AT_WRITER: usize = 57;
const AT_CLOCK: usize = 58;
const AT_SYNC_BUSY: usize = 64;
const AT_SYNCER: usize = 65;
const AT_GENERATION: usize = 72;
/// The two ends of the log. Each has a sequence number in its first word. Its two records are
/// `RECORD_WORDS` and `2 * RECORD_WORDS` words after that.
pub(super) const AT_TAIL: usize = 80;
pub(super) const AT_DURABLE: usize = 112;
/// Number of words of the record of one end of the log.
pub(super) const RECORD_WORDS: usize = 8;
/// The wait slots, on which waiting writers sleep. A ticket's number selects its slot. The first
/// word of a slot changes when a ticket is served; the second counts the sleeping sessions.
pub(super) const AT_WAIT_SLOTS: usize = 192;
pub(super) const WAIT_SLOTS: usize = 16;
pub(super) const WAIT_SLOT_WORDS: usize = 8;
/// The reservation: its id, the number of its session, its end, and a part of each stream's hash.
pub(super) const AT_RESERVED: usize = 448;
/// Number of words of the reservation. The first three are followed by one for each stream.
pub(super) const RESERVED_WORDS: usize = 3 + MAX_RESERVED_STREAMS;
/// Maximum number of streams in a reservation. Further streams are not reserved.
pub(crate) const MAX_RESERVED_STREAMS: usize = 16;
/// The slots of the sessions.
pub(super) const AT_SLOTS: usize = 512;

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

/// The inode numbers of the lock files boot, write, sync and maint.
pub(crate) type LockNumbers = [u64; 4];

/// The shared page, with methods for its words. The other files of this module add methods, and so
/// need access to the fields.
#[derive(Clone, Debug)]
pub(crate) struct CoordPage {
    pub(super) words: Arc<dyn SharedPage>,
    /// The random number of the session that created the page.
    pub(super) session: u64,
    /// The words that never change, as they were when this session created or joined the page.
    origin: Origin,
}

/// The words that identify the store, the file and the machine of a page.
type Origin = [u64; 6];

fn origin_of(words: &dyn SharedPage) -> Origin {
    let [first, second] = AT_STORE;
    [first, second, AT_FILE_NUMBER, AT_ROOT, AT_KERNEL, AT_DEVICE].map(|at| words.load(at))
}

/// The reason why a session can't join a page.
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
        words.store(AT_FILE_NUMBER, words.number()?);
        words.store(AT_KERNEL, kernel);
        words.store(AT_DEVICE, words.device()?);
        words.store(AT_ROOT, root);
        let store = AT_STORE.into_iter().zip(halves(store));
        for (at, word) in store.chain(AT_LOCKS.into_iter().zip(locks)) {
            words.store(at, word);
        }
        words.store(AT_PROTOCOL, PROTOCOL);
        words.store(AT_SESSION, session);
        words.store(AT_MAGIC, MAGIC);
        let origin = origin_of(&*words);
        Ok(Self {
            words,
            session,
            origin,
        })
    }

    /// Open the page of the store directory whose inode number is `root` (0 if unknown).
    ///
    /// A copy made of hard links has the same page and lock files, but is
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
        let origin = origin_of(&*words);
        Ok(Self {
            words,
            session,
            origin,
        })
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

    /// Whether other sessions can join through this page, or request to join. A session refuses a
    /// page whose origin or phase was overwritten. It would then be shut out until all sessions of
    /// that page have ended.
    pub(crate) fn is_joinable(&self, phase: Phase) -> bool {
        self.phase() == phase && origin_of(&*self.words) == self.origin
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

    /// Return the clock difference that the last commit used, or `None` before the first commit: the
    /// wall clock minus the time since boot, in microseconds. Only the holder of the write lock
    /// changes this value.
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
}

fn halves(uuid: [u8; 16]) -> [u64; 2] {
    let number = u128::from_le_bytes(uuid);
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    [half(number), half(number >> 64)]
}

const _: () = assert!(AT_WAIT_SLOTS + WAIT_SLOTS * WAIT_SLOT_WORDS <= AT_RESERVED);
const _: () = assert!(AT_RESERVED + RESERVED_WORDS <= AT_SLOTS);
const _: () = assert!(AT_SLOTS + MAX_SESSIONS * SLOT_WORDS <= crate::vfs::PAGE_WORDS);
const _: () = assert!(
    AT_DURABLE + 3 * RECORD_WORDS <= AT_WAIT_SLOTS && AT_TAIL + 3 * RECORD_WORDS <= AT_DURABLE
);
