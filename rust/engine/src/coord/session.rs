//! The sessions that have a store open, and what each has done: for reports, never trusted.
//!
//! A session has a slot in the page and a lock file of its own, which it holds until it ends:
//! process ids mean nothing across containers.

use std::io::ErrorKind;
use std::time::Duration;

use super::locks::{Lock, LockGuard};
use super::page::{MAX_SESSIONS, Page, SLOT_WORDS};
use crate::error::{Error, Result};
use crate::lock::Mutex;
use crate::log::{Layout, shown_holder as shown};
use crate::stats::SessionCounts;
use crate::vfs::Hold;

const PID: usize = 0;
const SINCE: usize = 1;
const FLAGS: usize = 2;
const PROGRAM: usize = 3;
const PROGRAM_WORDS: usize = 8;
const COUNTERS: usize = PROGRAM + PROGRAM_WORDS;
const LIFE: usize = COUNTERS + SessionCounts::COUNT;
const BEAT: usize = LIFE + 1;
const READ_ONLY: u64 = 1;

/// One opening of a store by one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The process, as it is numbered where it runs.
    pub pid: u64,
    /// When it opened the store, in microseconds since the Unix epoch.
    pub since_micros: u64,
    /// The program, shortened to 64 bytes.
    pub program: String,
    /// Whether it only reads.
    pub read_only: bool,
    /// Whether it is the session that made the report.
    pub is_self: bool,
    /// What it has done since it was opened.
    pub counts: SessionCounts,
}

/// The slot of this session in the page.
#[derive(Debug)]
pub(crate) struct SessionSlot {
    page: Page,
    /// `None` for a session that only reads and found no free lock file: it is not listed.
    number: Option<usize>,
    since_micros: u64,
    /// Held as long as the slot belongs to this session.
    held: Mutex<Option<LockGuard>>,
}

impl SessionSlot {
    /// Takes the first free slot. A session that only reads creates no lock file for it and needs
    /// none: it holds nothing that others would wait for.
    pub(crate) fn take(layout: &Layout, page: &Page, read_only: bool) -> Result<Self> {
        let now = layout.vfs.now_micros();
        let of = |number, held| Self {
            page: page.clone(),
            number,
            since_micros: now,
            held: Mutex::new(held),
        };
        for number in 0..MAX_SESSIONS {
            let lock = match Lock::open(&layout.vfs, layout.member(number), !read_only) {
                // It belongs to another user, and was created by a version that gave access to no
                // other one.
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
            if let Some(held) = lock.try_hold()? {
                let slot = of(Some(number), Some(held));
                slot.introduce(read_only);
                if !read_only && number + 1 < MAX_SESSIONS {
                    // For a session that only reads, which is not listed without one.
                    let _spare = Lock::open(&layout.vfs, layout.member(number + 1), true);
                }
                return Ok(slot);
            }
        }
        if read_only {
            return Ok(of(None, None));
        }
        let limit = MAX_SESSIONS as u64;
        Err(Error::LimitExceeded {
            what: "the processes that have a store open",
            actual: limit + 1,
            limit,
        })
    }

    fn introduce(&self, read_only: bool) {
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

    /// The number by which the page names a session, from 1; 0 without a slot.
    pub(crate) fn number(&self) -> u64 {
        self.number.map_or(0, |number| number as u64 + 1)
    }

    /// The report of a session that has no slot in the page.
    fn unlisted(&self) -> Option<Session> {
        let program = std::env::args_os().next().unwrap_or_default();
        let member = Session {
            pid: u64::from(std::process::id()),
            since_micros: self.since_micros,
            program: shown(program.to_string_lossy().as_bytes()),
            read_only: true,
            is_self: true,
            ..Session::default()
        };
        self.number.is_none().then_some(member)
    }

    /// Publishes what this session has done.
    pub(crate) fn publish(&self, counts: SessionCounts) {
        for (i, value) in counts.values().into_iter().enumerate() {
            self.set(COUNTERS + i, value);
        }
    }

    /// Records a heartbeat under the number of this session, by the clock of all processes.
    pub(crate) fn beat(&self, life: u64, uptime_micros: u64) {
        self.set(BEAT, uptime_micros);
        self.set(LIFE, life);
    }
}

impl SessionSlot {
    /// Frees the slot.
    pub(crate) fn leave(&self) {
        if let Some(held) = self.held.lock().take() {
            self.set(PID, 0);
            drop(held);
        }
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The sessions that are alive, with the session that asks.
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

/// The sessions that send heartbeats: the number of each, and the age of the last one at `now`.
pub(crate) fn live_sessions(
    layout: &Layout,
    slot: &SessionSlot,
    now: u64,
) -> Result<Vec<(u64, Duration)>> {
    let (page, own) = (&slot.page, slot.number());
    let mut seen = Vec::new();
    for number in 0..MAX_SESSIONS {
        let (life, beat) = (page.slot_word(number, LIFE), page.slot_word(number, BEAT));
        if page.slot_word(number, PID) == 0 || life == 0 {
            continue;
        }
        if number as u64 + 1 == own || is_alive(layout, number)?.unwrap_or(true) {
            // A heartbeat may come between the two reads of the clock.
            let heartbeat_age = Duration::from_micros(now.saturating_sub(beat));
            seen.push((life, heartbeat_age));
        }
    }
    Ok(seen)
}

/// Whether any session is alive. Without one, and without a session that only reads, the page is
/// left from sessions that have ended, whatever it records: its file may even be from before a
/// loss of power.
pub(crate) fn is_anyone_alive(layout: &Layout, page: &Page) -> Result<bool> {
    for number in 0..MAX_SESSIONS {
        if page.slot_word(number, PID) != 0 && is_alive(layout, number)? == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The sessions that are alive, as they are named in an error.
pub(crate) fn alive(layout: &Layout, page: &Page) -> Result<Vec<String>> {
    let mut alive = Vec::new();
    for number in 0..MAX_SESSIONS {
        if page.slot_word(number, PID) != 0 && is_alive(layout, number)? == Some(true) {
            alive.push(name(page, number as u64 + 1));
        }
    }
    Ok(alive)
}

/// Whether the session with a number is alive; `None` where this user has no access to its lock.
pub(super) fn is_alive(layout: &Layout, number: usize) -> Result<Option<bool>> {
    let lock = match Lock::open(&layout.vfs, layout.member(number), false) {
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
    let is_free = lock.try_take(Hold::Shared)?;
    lock.free();
    Ok(Some(!is_free))
}

fn read(page: &Page, number: usize, is_self: bool) -> Session {
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

fn program(page: &Page, number: usize) -> String {
    let words = (0..PROGRAM_WORDS).map(|i| page.slot_word(number, PROGRAM + i).to_le_bytes());
    let bytes: Vec<u8> = words.flatten().take_while(|byte| *byte != 0).collect();
    shown(&bytes)
}

/// A session as it is named in an error, by the number that the page has for it.
pub(crate) fn name(page: &Page, number: u64) -> String {
    let number = usize::try_from(number.wrapping_sub(1)).ok();
    // The page may have any number.
    let number = number.filter(|number| *number < MAX_SESSIONS);
    let member = number.map(|number| (number, page.slot_word(number, PID)));
    match member {
        None | Some((_, 0)) => "a process that is gone".to_owned(),
        Some((number, pid)) => format!("process {pid} running {}", program(page, number)),
    }
}

const _: () = assert!(BEAT < SLOT_WORDS);
