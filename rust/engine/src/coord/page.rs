//! What the processes of one store share in memory, word by word.
//!
//! Nothing of it is durable and nothing of it is needed: the first process to open a store
//! makes the page anew. While it is there it says where the log ends and how far it is
//! durable. Each of these two records has two slots: the spare one is filled, then published
//! by one store of a sequence number, so that a process which dies between two stores leaves
//! the record as it was. A record carries a checksum, because any program may write to the
//! file; a page that contradicts itself or the log is left at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::reserve::{Reserved, STREAMS};
use crate::vfs::SharedPage;

/// The layout below. Processes that know different ones never share a store.
pub(crate) const PROTOCOL: u64 = 3;
const MAGIC: u64 = u64::from_le_bytes(*b"EBCOORD\n");

// Words that different processes write at the same time stand in cache lines of their own.
const AT_MAGIC: usize = 0;
const AT_PROTOCOL: usize = 1;
const AT_SESSION: usize = 2;
const AT_STORE: [usize; 2] = [3, 4];
const AT_PHASE: usize = 5;
const AT_NUMBER: usize = 6;
const AT_KERNEL: usize = 7;
const AT_DEVICE: usize = 9;
const AT_POISON: usize = 8;
const AT_LOCKS: [usize; 4] = [10, 11, 12, 13];
const AT_ROOT: usize = 14;
const AT_KNOCK: usize = 16;
const AT_BELL: usize = 24;
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
/// Where waiting writers sleep, by ticket.
const AT_SEATS: usize = 192;
const SEATS: usize = 16;
const SEAT_WORDS: usize = 8;
/// The reservation: its id, its holder, its end, and parts of its streams' hashes.
const AT_RESERVED: usize = 448;
/// The members' table.
const AT_MEMBERS: usize = 512;

/// How many processes may have a store open at the same time.
pub(crate) const MEMBERS: usize = 240;
/// Words of one member's entry.
pub(crate) const MEMBER_WORDS: usize = 32;

/// How the store is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The page is being made, or its session is over.
    Idle,
    /// By one process, which answers a knock.
    Sole,
    /// By any number of processes.
    Shared,
}

/// A place in the log that is the end of a frame, or the first place of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) address: u64,
    /// The end of the last frame below.
    pub(crate) end: u64,
    pub(crate) next_position: u64,
    pub(crate) chain: u64,
    /// The segment that the address is in.
    pub(crate) ordinal: u64,
    pub(crate) commit_time: u64,
    /// Whether the last frame is the engine's own and covers all before it.
    pub(crate) is_marked: bool,
}

/// The numbers of the lock files boot, write, sync and maint.
pub(crate) type LockNumbers = [u64; 4];

const RECORD: usize = 8;

impl Mark {
    fn words(&self, seed: u64) -> [u64; RECORD] {
        let mut words = [
            self.address,
            self.end,
            self.next_position,
            self.chain,
            self.ordinal,
            self.commit_time,
            u64::from(self.is_marked),
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
            is_marked: marked == 1,
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

/// The shared page, by name.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    words: Arc<dyn SharedPage>,
    /// What this process knows the session by.
    session: u64,
}

/// Why a page is not one that can be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// It is no page, another store's, or a copy.
    Foreign,
    /// Its processes use a layout of this number.
    Protocol(u64),
}

impl Page {
    /// Takes possession of an empty page. Nobody joins before [`Page::set_phase`].
    pub(crate) fn make(
        words: Arc<dyn SharedPage>,
        session: u64,
        store: [u8; 16],
        kernel: u64,
        locks: LockNumbers,
        root: u64,
    ) -> io::Result<Self> {
        let number = words.number()?;
        let page = Self { words, session };
        page.words.store(AT_NUMBER, number);
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

    /// The page of the sessions in the store directory that the file system numbers `root`; 0
    /// where that isn't known.
    ///
    /// A copy of the directory by hard links has the very file and the very lock files, and is
    /// another store: sessions of the two would list segments in different directories.
    pub(crate) fn of(
        words: Arc<dyn SharedPage>,
        store: [u8; 16],
        root: u64,
    ) -> Result<Self, Stranger> {
        if words.load(AT_MAGIC) != MAGIC {
            return Err(Stranger::Foreign);
        }
        let protocol = words.load(AT_PROTOCOL);
        if protocol != PROTOCOL {
            return Err(Stranger::Protocol(protocol));
        }
        // Of a copy nobody would tell who goes on with the page itself.
        let is_itself = words
            .number()
            .is_ok_and(|number| number == words.load(AT_NUMBER));
        let is_elsewhere = root != 0 && words.load(AT_ROOT) != root;
        if !is_itself || is_elsewhere || AT_STORE.map(|at| words.load(at)) != halves(store) {
            return Err(Stranger::Foreign);
        }
        let session = words.load(AT_SESSION);
        Ok(Self { words, session })
    }

    /// Whether it was made under another kernel than this one, as far as that is known: one
    /// with another number, by which the file is on another device. A container may be shown
    /// another number of its kernel, and one that has the same file from it knows the device.
    pub(crate) fn is_foreign_to(&self, kernel: u64) -> bool {
        let differs = |word: usize, own: u64| {
            let maker = self.words.load(word);
            maker != 0 && own != 0 && maker != own
        };
        differs(AT_KERNEL, kernel) && differs(AT_DEVICE, self.words.device().unwrap_or(0))
    }

    /// The lock files that those who share the store keep each other apart by: whoever found
    /// others at their paths would be kept apart from nobody.
    pub(crate) fn locks(&self) -> LockNumbers {
        AT_LOCKS.map(|at| self.words.load(at))
    }

    /// Whether it is still the page of this session, and still where others find it.
    pub(crate) fn is_ours(&self) -> bool {
        self.names_us() && self.words.is_in_place().unwrap_or(false)
    }

    /// Whether it calls itself the page of this session.
    pub(crate) fn names_us(&self) -> bool {
        self.words.load(AT_MAGIC) == MAGIC
            && self.words.load(AT_PROTOCOL) == PROTOCOL
            && self.words.load(AT_SESSION) == self.session
    }

    /// Has every process leave the session: the page was found to lie, or not to be where
    /// others look for it, and a new one can't begin while somebody still believes in it.
    pub(crate) fn condemn(&self) {
        if self.words.load(AT_SESSION) == self.session {
            self.words.store(AT_MAGIC, 0);
        }
        for word in [AT_BELL, AT_KNOCK] {
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

    // --- where the log ends ---

    /// The end of what is written; `None` where no writer of this session wrote that.
    pub(crate) fn tail(&self) -> Option<Mark> {
        self.read(AT_TAIL, |turn| self.record(AT_TAIL, turn))
    }

    /// For the holder of the write lock.
    pub(crate) fn publish_tail(&self, tail: &Mark) {
        self.publish(AT_TAIL, tail);
    }

    /// The end of what is durable; `None` where no one who synced wrote that.
    ///
    /// The next record counts as soon as it is whole, since all of it was durable before it
    /// was written: a number that was set back by one hides no commit. By more, it names a
    /// record that is not there any more.
    pub(crate) fn durable(&self) -> Option<Mark> {
        self.read(AT_DURABLE, |turn| {
            let named = self.record(AT_DURABLE, turn)?;
            let next = self.record(AT_DURABLE, turn.wrapping_add(1));
            Some(next.unwrap_or(named))
        })
    }

    /// The number of [`Page::durable`] and the farthest address of its two slots, cheap to
    /// look at; nothing says that they are whole.
    pub(crate) fn durable_in_short(&self) -> (u64, u64) {
        let turn = self.words.load(AT_DURABLE);
        let [one, other] = [0, 1].map(|turn| self.words.load(slot(AT_DURABLE, turn)));
        (turn, one.max(other))
    }

    /// For the holder of the sync lock.
    pub(crate) fn publish_durable(&self, durable: &Mark) {
        // Of who died before it said so, or where the number was set back. Whoever reads is
        // not to find that record half written over, and take the one before it.
        let next = self.words.load(AT_DURABLE).wrapping_add(1);
        if self.record(AT_DURABLE, next).is_some() {
            self.words.store(AT_DURABLE, next);
        }
        self.publish(AT_DURABLE, durable);
    }

    fn publish(&self, at: usize, mark: &Mark) {
        let next = self.words.load(at).wrapping_add(1);
        let slot = slot(at, next);
        for (i, word) in mark.words(self.seed(next)).into_iter().enumerate() {
            self.words.store(slot + i, word);
        }
        self.words.store(at, next);
    }

    /// What `look` finds in a turn that lasts for as long as it looks.
    fn read(&self, at: usize, look: impl Fn(u64) -> Option<Mark>) -> Option<Mark> {
        loop {
            let turn = self.words.load(at);
            let found = look(turn);
            if self.words.load(at) == turn {
                return found;
            }
        }
    }

    /// The record of a turn, if it is in its slot and whole.
    fn record(&self, at: usize, turn: u64) -> Option<Mark> {
        let slot = slot(at, turn);
        let words = std::array::from_fn(|i| self.words.load(slot + i));
        Mark::of_words(&words, self.seed(turn))
    }

    /// A record is that of one turn only: a number that was changed doesn't bring back the
    /// record before.
    fn seed(&self, turn: u64) -> u64 {
        self.session.wrapping_add(turn)
    }

    /// The end of the write that is under way, 0 if none is. Who finds another's number under
    /// the write lock has taken over from somebody who died in a write.
    pub(crate) fn dirty(&self) -> u64 {
        self.words.load(AT_DIRTY)
    }

    pub(crate) fn set_dirty(&self, end: u64) {
        self.words.store(AT_DIRTY, end);
    }

    /// Whether a sync is under way. Who finds that under the sync lock has taken over from
    /// somebody who may have died with the one report of a failed write.
    pub(crate) fn is_sync_busy(&self) -> bool {
        self.words.load(AT_SYNC_BUSY) != 0
    }

    pub(crate) fn set_sync_busy(&self, busy: bool) {
        self.words.store(AT_SYNC_BUSY, u64::from(busy));
    }

    /// The member who took the write lock last, counted from 1; a help for people.
    pub(crate) fn writer(&self) -> u64 {
        self.words.load(AT_WRITER)
    }

    /// By how many microseconds the wall clock was ahead of the time since boot at the last
    /// commit, if there was one. Changed by the process that has the write lock.
    pub(crate) fn clock(&self) -> Option<i64> {
        let ahead = self.words.load(AT_CLOCK).cast_signed();
        (ahead != 0).then_some(ahead)
    }

    pub(crate) fn set_clock(&self, ahead: i64) {
        self.words.store(AT_CLOCK, ahead.cast_unsigned());
    }

    pub(crate) fn set_writer(&self, member: u64) {
        self.words.store(AT_WRITER, member);
    }

    /// The member who took the sync lock last, counted from 1; a help for people.
    pub(crate) fn syncer(&self) -> u64 {
        self.words.load(AT_SYNCER)
    }

    pub(crate) fn set_syncer(&self, member: u64) {
        self.words.store(AT_SYNCER, member);
    }

    /// The generation of the live manifest.
    pub(crate) fn generation(&self) -> u64 {
        self.words.load(AT_GENERATION)
    }

    pub(crate) fn set_generation(&self, generation: u64) {
        self.words.store(AT_GENERATION, generation);
    }

    // --- who wakes whom ---

    /// Asks the one process that has the store to share it.
    pub(crate) fn knock(&self) {
        self.words.add(AT_KNOCK, 1);
        self.words.wake(AT_KNOCK);
    }

    pub(crate) fn knocks(&self) -> u64 {
        self.words.load(AT_KNOCK)
    }

    pub(crate) fn wait_for_knock(&self, seen: u64, timeout: Duration) {
        self.words.wait(AT_KNOCK, seen, timeout);
    }

    /// Tells all who listen that more is durable, or that the store has stopped.
    pub(crate) fn ring(&self) {
        self.words.add(AT_BELL, 1);
        // Sequentially consistent, against a listener that counts itself and then looks at
        // the bell: one of the two sees the other. One that died while it listened leaves
        // its count behind, which costs a system call a ring.
        if self.words.load(AT_LISTENERS) > 0 {
            self.words.wake(AT_BELL);
        }
    }

    pub(crate) fn rings(&self) -> u64 {
        self.words.load(AT_BELL)
    }

    pub(crate) fn wait_for_ring(&self, seen: u64, timeout: Duration) {
        self.words.add(AT_LISTENERS, 1);
        self.words.wait(AT_BELL, seen, timeout);
        self.words.add(AT_LISTENERS, u64::MAX);
    }

    // --- whose turn it is to write ---

    pub(crate) fn draw_ticket(&self) -> u64 {
        self.words.add(AT_NEXT_TICKET, 1)
    }

    pub(crate) fn serving(&self) -> u64 {
        self.words.load(AT_SERVING)
    }

    /// Calls up a ticket, and whoever holds it.
    pub(crate) fn serve(&self, ticket: u64) {
        if self.words.raise(AT_SERVING, ticket) >= ticket {
            return;
        }
        let seat = seat(ticket);
        self.words.add(seat, 1);
        if self.words.load(seat + 1) > 0 {
            self.words.wake(seat);
        }
    }

    /// What [`Page::wait_for_turn`] is to be given, looked at before [`Page::serving`] is.
    pub(crate) fn calls(&self, ticket: u64) -> u64 {
        self.words.load(seat(ticket))
    }

    pub(crate) fn wait_for_turn(&self, ticket: u64, seen: u64, timeout: Duration) {
        let seat = seat(ticket);
        self.words.add(seat + 1, 1);
        self.words.wait(seat, seen, timeout);
        self.words.add(seat + 1, u64::MAX);
    }

    // --- reservations ---

    /// The reservation that is recorded, whether it is in force or not. It may be the mixture
    /// of two, if one is being recorded: it delays others at worst, and not for long.
    pub(crate) fn reserved(&self) -> Option<Reserved> {
        let id = self.words.load(AT_RESERVED);
        if id == 0 {
            return None;
        }
        Some(Reserved {
            id,
            member: self.words.load(AT_RESERVED + 1),
            until: self.words.load(AT_RESERVED + 2),
            streams: std::array::from_fn(|i| self.words.load(AT_RESERVED + 3 + i)),
        })
    }

    /// Records a reservation in place of that with the id `held`, 0 if there was none; whether
    /// it was still that one.
    pub(crate) fn reserve(&self, held: u64, new: &Reserved) -> bool {
        if !self.words.exchange(AT_RESERVED, held, new.id) {
            return false;
        }
        // Not in force before it is whole.
        self.words.store(AT_RESERVED + 2, 0);
        self.words.store(AT_RESERVED + 1, new.member);
        for (i, stream) in new.streams.iter().enumerate() {
            self.words.store(AT_RESERVED + 3 + i, *stream);
        }
        self.words.store(AT_RESERVED + 2, new.until);
        true
    }

    pub(crate) fn release(&self, id: u64) {
        self.words.exchange(AT_RESERVED, id, 0);
    }

    // --- who is here ---

    pub(crate) fn member(&self, member: usize, word: usize) -> u64 {
        self.words.load(AT_MEMBERS + member * MEMBER_WORDS + word)
    }

    pub(crate) fn set_member(&self, member: usize, word: usize, value: u64) {
        self.words
            .store(AT_MEMBERS + member * MEMBER_WORDS + word, value);
    }
}

fn slot(at: usize, turn: u64) -> usize {
    let second = usize::from(!turn.is_multiple_of(2));
    at + RECORD + second * RECORD
}

fn seat(ticket: u64) -> usize {
    AT_SEATS + usize::try_from(ticket % SEATS as u64).unwrap_or_default() * SEAT_WORDS
}

fn halves(uuid: [u8; 16]) -> [u64; 2] {
    let number = u128::from_le_bytes(uuid);
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
    [half(number), half(number >> 64)]
}

const _: () = assert!(AT_SEATS + SEATS * SEAT_WORDS <= AT_RESERVED);
const _: () = assert!(AT_RESERVED + 3 + STREAMS <= AT_MEMBERS);
const _: () = assert!(AT_MEMBERS + MEMBERS * MEMBER_WORDS <= crate::vfs::PAGE_WORDS);
const _: () = assert!(AT_DURABLE + 3 * RECORD <= AT_SEATS && AT_TAIL + 3 * RECORD <= AT_DURABLE);
