//! Who has the store open, and what each has done: for people, never trusted.
//!
//! A member is an entry in the page and a lock file of its own, which it holds as long as it
//! lives: process ids say nothing across containers.

use std::io::ErrorKind;
use std::time::Duration;

use super::locks::{Lock, LockGuard};
use super::page::{MEMBER_WORDS, MEMBERS, Page};
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

/// One opening of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The process, as it is numbered where it runs.
    pub pid: u64,
    /// When it opened the store, in microseconds since the Unix epoch.
    pub since_micros: u64,
    /// The program, shortened to 64 bytes.
    pub program: String,
    /// Whether it only looks.
    pub read_only: bool,
    /// Whether it is the opening that asks.
    pub is_self: bool,
    /// What it has done since it was opened.
    pub counts: SessionCounts,
}

/// This process's entry.
#[derive(Debug)]
pub(crate) struct Entry {
    page: Page,
    /// `None` for a session that only reads and found no free lock file: it is not listed.
    number: Option<usize>,
    since_micros: u64,
    /// Held as long as the entry is this process's.
    held: Mutex<Option<LockGuard>>,
}

impl Entry {
    /// Takes the first entry that nobody alive has. A session that only reads makes no file for
    /// it and can do without: it holds nothing that others would wait for.
    pub(crate) fn take(layout: &Layout, page: &Page, read_only: bool) -> Result<Self> {
        let now = layout.vfs.now_micros();
        let of = |number, held| Self {
            page: page.clone(),
            number,
            since_micros: now,
            held: Mutex::new(held),
        };
        for number in 0..MEMBERS {
            let lock = match Lock::open(&layout.vfs, layout.member(number), !read_only) {
                // Of another user, made by a version that gave it to nobody else.
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
                let entry = of(Some(number), Some(held));
                entry.introduce(read_only);
                if !read_only && number + 1 < MEMBERS {
                    // For a session that only reads. Without it that one is not listed.
                    let _spare = Lock::open(&layout.vfs, layout.member(number + 1), true);
                }
                return Ok(entry);
            }
        }
        if read_only {
            return Ok(of(None, None));
        }
        let limit = MEMBERS as u64;
        Err(Error::LimitExceeded {
            what: "the processes that have a store open",
            actual: limit + 1,
            limit,
        })
    }

    fn introduce(&self, read_only: bool) {
        for word in 0..MEMBER_WORDS {
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
            self.page.set_member(number, word, value);
        }
    }

    /// As it is written in the page where a member is named, from 1; 0 without an entry.
    pub(crate) fn number(&self) -> u64 {
        self.number.map_or(0, |number| number as u64 + 1)
    }

    /// The session itself as a member, where it has no entry in the page to be read from.
    fn unlisted(&self) -> Option<Member> {
        let program = std::env::args_os().next().unwrap_or_default();
        let member = Member {
            pid: u64::from(std::process::id()),
            since_micros: self.since_micros,
            program: shown(program.to_string_lossy().as_bytes()),
            read_only: true,
            is_self: true,
            ..Member::default()
        };
        self.number.is_none().then_some(member)
    }

    /// Publishes what this session has done.
    pub(crate) fn publish(&self, counts: SessionCounts) {
        for (i, value) in counts.values().into_iter().enumerate() {
            self.set(COUNTERS + i, value);
        }
    }

    /// Gives a sign of life under a number of its own, by the clock of all processes.
    pub(crate) fn beat(&self, life: u64, uptime_micros: u64) {
        self.set(BEAT, uptime_micros);
        self.set(LIFE, life);
    }
}

impl Entry {
    /// Gives the entry back.
    pub(crate) fn leave(&self) {
        if let Some(held) = self.held.lock().take() {
            self.set(PID, 0);
            drop(held);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The members that are alive, with the session that asks.
pub(crate) fn members(layout: &Layout, entry: &Entry) -> Result<Vec<Member>> {
    let (page, own) = (&entry.page, entry.number());
    let mut members = Vec::from_iter(entry.unlisted());
    for number in 0..MEMBERS {
        if page.member(number, PID) == 0 {
            continue;
        }
        let is_self = number as u64 + 1 == own;
        if is_self || is_alive(layout, number)?.unwrap_or(true) {
            members.push(read(page, number, is_self));
        }
    }
    Ok(members)
}

/// The members that give signs of life: each one's number, and how long it was silent by `now`.
pub(crate) fn sightings(layout: &Layout, entry: &Entry, now: u64) -> Result<Vec<(u64, Duration)>> {
    let (page, own) = (&entry.page, entry.number());
    let mut seen = Vec::new();
    for number in 0..MEMBERS {
        let (life, beat) = (page.member(number, LIFE), page.member(number, BEAT));
        if page.member(number, PID) == 0 || life == 0 {
            continue;
        }
        if number as u64 + 1 == own || is_alive(layout, number)?.unwrap_or(true) {
            // A beat may come between the two looks at the clock.
            let silence = Duration::from_micros(now.saturating_sub(beat));
            seen.push((life, silence));
        }
    }
    Ok(seen)
}

/// Whether any member is alive. Without one, and without a session that only reads, the page
/// is that of a session which is over, whatever it says: its file may even be from before a
/// loss of power.
pub(crate) fn is_anyone_alive(layout: &Layout, page: &Page) -> Result<bool> {
    for number in 0..MEMBERS {
        if page.member(number, PID) != 0 && is_alive(layout, number)? == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The members that are alive, as they are named in an error.
pub(crate) fn alive(layout: &Layout, page: &Page) -> Result<Vec<String>> {
    let mut alive = Vec::new();
    for number in 0..MEMBERS {
        if page.member(number, PID) != 0 && is_alive(layout, number)? == Some(true) {
            alive.push(name(page, number as u64 + 1));
        }
    }
    Ok(alive)
}

/// Whether the member of a number lives; `None` where this user may not know.
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

fn read(page: &Page, number: usize, is_self: bool) -> Member {
    let word = |i| page.member(number, i);
    Member {
        pid: word(PID),
        since_micros: word(SINCE),
        program: program(page, number),
        read_only: word(FLAGS) & READ_ONLY != 0,
        is_self,
        counts: SessionCounts::from_values(std::array::from_fn(|i| word(COUNTERS + i))),
    }
}

fn program(page: &Page, number: usize) -> String {
    let words = (0..PROGRAM_WORDS).map(|i| page.member(number, PROGRAM + i).to_le_bytes());
    let bytes: Vec<u8> = words.flatten().take_while(|byte| *byte != 0).collect();
    shown(&bytes)
}

/// A member as it is named in an error, by the number that the page has for it.
pub(crate) fn name(page: &Page, number: u64) -> String {
    let number = usize::try_from(number.wrapping_sub(1)).ok();
    // The page may have any number.
    let number = number.filter(|number| *number < MEMBERS);
    let member = number.map(|number| (number, page.member(number, PID)));
    match member {
        None | Some((_, 0)) => "a process that is gone".to_owned(),
        Some((number, pid)) => format!("process {pid} running {}", program(page, number)),
    }
}

const _: () = assert!(BEAT < MEMBER_WORDS);
