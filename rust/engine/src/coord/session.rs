//! The sessions of a store, with their heartbeats and counters. The counters are for reports;
//! nothing relies on them.
//!
//! A session has a slot in the page, and a lock file that it locks until it ends. The lock is the
//! sign of life. A process id can't serve as one, because it is meaningless in another container.

use std::io::ErrorKind;
use std::time::Duration;

use super::page::{AT_SLOTS, CoordPage, MAX_SESSIONS, SLOT_WORDS};
use super::process_locks::{Lock, LockGuard};
use crate::error::{Error, Result};
use crate::log::{Layout, printable_holder};
use crate::mutex::Mutex;
use crate::stats::SessionCounts;
use crate::vfs::Hold;

// The words of a slot. A change of this layout needs a new `PROTOCOL`. A new counter in
// `SessionCounts` is such a change, because it moves the two words of the heartbeat.
const PID: usize = 0;
const SINCE: usize = 1;
const FLAGS: usize = 2;
const PROGRAM: usize = 3;
const PROGRAM_WORDS: usize = 8;
const COUNTERS: usize = PROGRAM + PROGRAM_WORDS;
const HEARTBEAT_ID: usize = COUNTERS + SessionCounts::COUNT;
const HEARTBEAT_TIME: usize = HEARTBEAT_ID + 1;
const READ_ONLY: u64 = 1;

/// One opening of a store by one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The process id in the process's own namespace.
    pub pid: u64,
    /// Time at which the session began, in microseconds since the Unix epoch.
    pub since_micros: u64,
    /// The name of the program, shortened to 64 bytes.
    pub program: String,
    /// Whether the session is read-only.
    pub read_only: bool,
    /// Whether this is the session whose caller requested the list of sessions.
    pub is_self: bool,
    /// The counters of the session.
    pub counts: SessionCounts,
}

/// The slot of this session in the page.
#[derive(Debug)]
pub(crate) struct SessionSlot {
    page: CoordPage,
    /// `None` for a read-only session that found no free lock file. Such a session is not listed.
    number: Option<usize>,
    since_micros: u64,
    /// The locked lock file, as long as the slot belongs to this session.
    guard: Mutex<Option<LockGuard>>,
}

impl SessionSlot {
    /// Acquire the first free slot. A read-only session creates no lock file. If it finds no free
    /// one, it has no slot: it holds nothing that other sessions wait for.
    pub(crate) fn acquire(layout: &Layout, page: &CoordPage, read_only: bool) -> Result<Self> {
        let now = layout.vfs.now_micros();
        let of = |number, guard| Self {
            page: page.clone(),
            number,
            since_micros: now,
            guard: Mutex::new(guard),
        };
        for number in 0..MAX_SESSIONS {
            let lock = match Lock::open(&layout.vfs, layout.session_lock(number), !read_only) {
                // The file belongs to another user and was created by a version that gave other
                // users no access.
                Err(Error::Io {
                    kind: ErrorKind::PermissionDenied,
                    ..
                }) => continue,
                Err(Error::Io {
                    kind: ErrorKind::NotFound,
                    ..
                }) if read_only => continue,
                opened => opened?,
            };
            if let Some(guard) = lock.try_acquire()? {
                let slot = of(Some(number), Some(guard));
                slot.fill(read_only);
                if !read_only && number + 1 < MAX_SESSIONS {
                    // Create the next lock file in advance: a read-only session can't create it,
                    // and a session without a lock file is not listed.
                    let _spare = Lock::open(&layout.vfs, layout.session_lock(number + 1), true);
                }
                return Ok(slot);
            }
        }
        if read_only {
            return Ok(of(None, None));
        }
        let limit = MAX_SESSIONS as u64;
        Err(Error::LimitExceeded {
            what: "the sessions of this store",
            actual: limit + 1,
            limit,
        })
    }

    fn fill(&self, read_only: bool) {
        for word in 0..SLOT_WORDS {
            self.set(word, 0);
        }
        let program = std::env::args_os().next().unwrap_or_default();
        let program = program.to_string_lossy();
        for (i, eight) in program.as_bytes().chunks(8).take(PROGRAM_WORDS).enumerate() {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(eight) {
                *to = *from;
            }
            self.set(PROGRAM + i, u64::from_le_bytes(bytes));
        }
        self.set(FLAGS, if read_only { READ_ONLY } else { 0 });
        self.set(SINCE, self.since_micros);
        self.set(PID, u64::from(std::process::id()));
    }

    fn set(&self, word: usize, value: u64) {
        if let Some(number) = self.number {
            self.page.set_slot_word(number, word, value);
        }
    }

    /// Return the number of this session in the page, counted from 1, or 0 if it has no slot.
    pub(crate) fn number(&self) -> u64 {
        self.number.map_or(0, |number| number as u64 + 1)
    }

    /// Return the description of this session if it has no slot in the page, because the list of the
    /// slots then lacks it. Otherwise return `None`.
    fn unlisted(&self) -> Option<Session> {
        let program = std::env::args_os().next().unwrap_or_default();
        let report = Session {
            pid: u64::from(std::process::id()),
            since_micros: self.since_micros,
            program: printable_holder(program.to_string_lossy().as_bytes()),
            read_only: true,
            is_self: true,
            ..Session::default()
        };
        self.number.is_none().then_some(report)
    }

    /// Publish the counters of this session.
    pub(crate) fn publish(&self, counts: SessionCounts) {
        for (i, value) in counts.values().into_iter().enumerate() {
            self.set(COUNTERS + i, value);
        }
    }

    /// Record a heartbeat of this session with its id and its time, by the clock that all processes
    /// share.
    pub(crate) fn record_heartbeat(&self, id: u64, uptime_micros: u64) {
        self.set(HEARTBEAT_TIME, uptime_micros);
        self.set(HEARTBEAT_ID, id);
    }
}

impl SessionSlot {
    /// Free the slot.
    pub(crate) fn leave(&self) {
        if let Some(guard) = self.guard.lock().take() {
            self.set(PID, 0);
            drop(guard);
        }
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.leave();
    }
}

impl CoordPage {
    fn slot_word(&self, slot: usize, word: usize) -> u64 {
        self.words.load(AT_SLOTS + slot * SLOT_WORDS + word)
    }

    fn set_slot_word(&self, slot: usize, word: usize, value: u64) {
        self.words.store(AT_SLOTS + slot * SLOT_WORDS + word, value);
    }
}

/// Return the live sessions, including this one.
pub(crate) fn sessions(layout: &Layout, slot: &SessionSlot) -> Result<Vec<Session>> {
    let (page, own) = (&slot.page, slot.number());
    let mut sessions = Vec::from_iter(slot.unlisted());
    for number in 0..MAX_SESSIONS {
        if page.slot_word(number, PID) == 0 {
            continue;
        }
        let is_self = number as u64 + 1 == own;
        if is_self || is_alive(layout, number)?.unwrap_or(true) {
            sessions.push(read(page, number, is_self));
        }
    }
    Ok(sessions)
}

/// Return the ids of the sessions that send heartbeats, each with the age of its last heartbeat at
/// the time `now`.
pub(crate) fn live_sessions(
    layout: &Layout,
    slot: &SessionSlot,
    now: u64,
) -> Result<Vec<(u64, Duration)>> {
    let (page, own) = (&slot.page, slot.number());
    let mut live = Vec::new();
    for number in 0..MAX_SESSIONS {
        let (id, time) = (
            page.slot_word(number, HEARTBEAT_ID),
            page.slot_word(number, HEARTBEAT_TIME),
        );
        if page.slot_word(number, PID) == 0 || id == 0 {
            continue;
        }
        if number as u64 + 1 == own || is_alive(layout, number)?.unwrap_or(true) {
            // The heartbeat may be later than `now`, because `now` was read first.
            let heartbeat_age = Duration::from_micros(now.saturating_sub(time));
            live.push((id, heartbeat_age));
        }
    }
    Ok(live)
}

/// Whether any listed session is alive. If no session is alive, not even an unlisted read-only one,
/// the page is left over from sessions that have ended and its content is meaningless. The file may
/// even date from before a loss of power.
pub(crate) fn has_live_session(layout: &Layout, page: &CoordPage) -> Result<bool> {
    for number in 0..MAX_SESSIONS {
        if page.slot_word(number, PID) != 0 && is_alive(layout, number)? == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Return the names of the live sessions for an error message.
pub(crate) fn live_session_names(layout: &Layout, page: &CoordPage) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for number in 0..MAX_SESSIONS {
        if page.slot_word(number, PID) != 0 && is_alive(layout, number)? == Some(true) {
            names.push(session_name(page, number as u64 + 1));
        }
    }
    Ok(names)
}

/// Whether the session in this slot is alive, or `None` if the user of this process can't open the
/// slot's lock file.
pub(super) fn is_alive(layout: &Layout, number: usize) -> Result<Option<bool>> {
    let lock = match Lock::open(&layout.vfs, layout.session_lock(number), false) {
        Err(Error::Io {
            kind: ErrorKind::NotFound,
            ..
        }) => return Ok(Some(false)),
        Err(Error::Io {
            kind: ErrorKind::PermissionDenied,
            ..
        }) => return Ok(None),
        opened => opened?,
    };
    let is_free = lock.try_lock(Hold::Shared)?;
    lock.release();
    Ok(Some(!is_free))
}

fn read(page: &CoordPage, number: usize, is_self: bool) -> Session {
    let word = |i| page.slot_word(number, i);
    Session {
        pid: word(PID),
        since_micros: word(SINCE),
        program: program(page, number),
        read_only: word(FLAGS) & READ_ONLY != 0,
        is_self,
        counts: SessionCounts::from_values(std::array::from_fn(|i| word(COUNTERS + i))),
    }
}

fn program(page: &CoordPage, number: usize) -> String {
    let words = (0..PROGRAM_WORDS).map(|i| page.slot_word(number, PROGRAM + i).to_le_bytes());
    let bytes: Vec<u8> = words.flatten().take_while(|byte| *byte != 0).collect();
    printable_holder(&bytes)
}

/// Return the name of a session for an error message. `number` is counted from 1.
pub(crate) fn session_name(page: &CoordPage, number: u64) -> String {
    let number = usize::try_from(number.wrapping_sub(1)).ok();
    // The page may contain any number, because any program can write to it.
    let number = number.filter(|number| *number < MAX_SESSIONS);
    let number = number.map(|number| (number, page.slot_word(number, PID)));
    match number {
        None | Some((_, 0)) => "a process that has ended".to_owned(),
        Some((number, pid)) => format!("process {pid} running {}", program(page, number)),
    }
}

const _: () = assert!(HEARTBEAT_TIME < SLOT_WORDS);
