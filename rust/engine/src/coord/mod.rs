//! Several processes on one store.
//!
//! * `page`: what they share in memory. `locks`: the locks between them.
//! * `session`: the sessions that have the store open. `reserve`: reservations of streams.
//!
//! | lock | held | order |
//! |---|---|---|
//! | `boot` | while a session begins, or the last one ends | 1 |
//! | `live`, the directory itself | exclusively by the only session; shared by several | 2 |
//! | `write` | while a batch is validated and written | 3 |
//! | `maint` | while files are created, filled ahead or listed | 4 |
//! | `sync` | while the log is synced | 5 |
//!
//! A session that has the store for itself holds `live` exclusively and acquires no other lock,
//! so it pays nothing for sessions that might join. Another session sends a join request; once
//! the store is shared, both acquire the locks. A thread acquires a lock only while it holds
//! none of a higher number: with that order no two sessions can wait for each other.

mod locks;
mod page;
mod reserve;
mod session;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) use locks::{Lock, LockGuard, RECHECK, TicketGuard};
pub(crate) use page::{LockNumbers, LogPoint, PROTOCOL, Page, Phase, Unjoinable};
pub use reserve::LONGEST_RESERVATION;
pub(crate) use reserve::Reserved;
pub use session::Session;
pub(crate) use session::{SessionSlot, alive, is_anyone_alive, live_sessions, sessions};

use crate::error::{Error, Result};
use crate::log::{Layout, Maintenance, MaintenanceGuard};
use crate::vfs::Hold;
use locks::{MaintenanceLock, MaintenancePass};
use reserve::LocalReservation;
use session::{is_alive, name};

/// The coordination of this session with others.
#[derive(Debug)]
pub(crate) struct Coord {
    root: PathBuf,
    /// `None` where no other session can join for as long as this one lasts.
    session: Option<SharedSession>,
    /// Whether the store is shared. Set once, under all locks that keep the threads of this
    /// session apart, and never reset: a thread that reads it under one of them can rely on it.
    shared: AtomicBool,
    maint: MaintenanceLock,
    /// The reservation of a store that no other session can join.
    reservation: LocalReservation,
    /// How long another session is waited for.
    lock_timeout: Duration,
}

/// What a session needs to share a store.
#[derive(Debug)]
pub(crate) struct SharedSession {
    pub(crate) page: Page,
    pub(crate) locks: Locks,
    pub(crate) slot: SessionSlot,
}

/// The locks of a shared store.
#[derive(Debug)]
pub(crate) struct Locks {
    pub(crate) boot: Lock,
    pub(crate) live: Lock,
    pub(crate) write: Lock,
    pub(crate) sync: Lock,
    pub(crate) maint: Lock,
    /// The file numbers of the lock files at the opening: files that replace them have others.
    pub(crate) numbers: LockNumbers,
}

impl Coord {
    /// The coordination of a session that no other one can join.
    pub(crate) fn alone(layout: &Layout) -> Self {
        Self::new(layout, None, false, Duration::ZERO)
    }

    pub(crate) fn new(
        layout: &Layout,
        session: Option<SharedSession>,
        shared: bool,
        lock_timeout: Duration,
    ) -> Self {
        Self {
            root: layout.root.clone(),
            session,
            shared: AtomicBool::new(shared),
            maint: MaintenanceLock::new(),
            reservation: LocalReservation::default(),
            lock_timeout,
        }
    }

    /// The means to share the store, whether it is shared or not.
    pub(crate) fn session(&self) -> Option<&SharedSession> {
        self.session.as_ref()
    }

    /// The means to share the store, if it is shared: every lock has to be acquired then.
    ///
    /// A store becomes shared only under the locks that keep this session's own threads
    /// apart (see [`Coord::share`]), and remains so until it is closed.
    pub(crate) fn shared(&self) -> Option<&SharedSession> {
        self.session
            .as_ref()
            .filter(|_| self.shared.load(Ordering::SeqCst))
    }

    /// Shares the store after a join request: `publish` records where the log ends. The caller
    /// holds the state of the writer, the lock of [`Coord::maintain`], and leads the syncs.
    ///
    /// The session that joins holds `boot`, but one that wants the store exclusively may not, and
    /// may acquire `live` between the two states of the lock. The error then means that this
    /// session has no lock on the store any more, and must not write to it.
    ///
    /// `is_stopped` is checked when all threads of this session take the store for shared: a
    /// thread that stopped the session before that did not mark the page as poisoned.
    pub(crate) fn share(
        &self,
        publish: impl FnOnce(&Page),
        is_stopped: impl FnOnce() -> bool,
    ) -> Result<()> {
        let Some(session) = self.session.as_ref() else {
            return Ok(());
        };
        publish(&session.page);
        self.shared.store(true, Ordering::SeqCst);
        if is_stopped() {
            session.page.poison();
        }
        session.page.set_phase(Phase::Shared);
        if session.locks.live.try_take(Hold::Shared)? {
            return Ok(());
        }
        let reason = "another process took the store for itself alone";
        Err(Error::detached(&self.root, reason))
    }

    /// The recorded reservation, whether it is in force or not.
    pub(crate) fn reserved(&self) -> Option<Reserved> {
        match self.session() {
            Some(session) => session.page.reserved(),
            None => self.reservation.get(),
        }
    }

    /// Records a reservation; `false` if another one is in force.
    pub(crate) fn reserve(&self, layout: &Layout, new: Reserved, now: u64) -> bool {
        let Some(session) = self.session() else {
            return self.reservation.set(new, now);
        };
        let held = session.page.reserved();
        let held_id = held.map_or(0, |held| held.id);
        let is_in_force =
            |held: Reserved| held.is_in_force(now) && self.is_session_alive(layout, held.session);
        if held.is_some_and(is_in_force) {
            return false;
        }
        session.page.reserve(held_id, &new)
    }

    /// Ends a reservation, unless it has ended.
    pub(crate) fn release(&self, id: u64) {
        match self.session() {
            Some(session) => session.page.release(id),
            None => self.reservation.clear(id),
        }
    }

    /// Whether the session with this number, from 1, is alive. A session whose lock file can't be
    /// looked at counts as alive.
    pub(crate) fn is_session_alive(&self, layout: &Layout, member: u64) -> bool {
        let own = self.session().map_or(0, |session| session.slot.number());
        let number = usize::try_from(member.wrapping_sub(1)).ok();
        member == own
            || number.is_none_or(|number| is_alive(layout, number).ok().flatten().unwrap_or(true))
    }

    /// The time by which another process must have freed a lock.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.lock_timeout
    }

    /// Acquires the maintenance lock: among the threads of this session, and among the sessions
    /// if the store is shared. It protects the creation, filling and listing of files.
    pub(crate) fn maintain(&self) -> Result<MaintenancePass<'_>> {
        self.maint.enter(|| match self.shared() {
            None => Ok(None),
            Some(session) => match session.locks.maint.hold_by(self.deadline())? {
                Some(held) => Ok(Some(held)),
                None => Err(self.stalled("the files of its log", 0)),
            },
        })
    }

    /// The error of a lock that another process holds for too long: it may have been stopped.
    pub(crate) fn stalled(&self, what: &str, member: u64) -> Error {
        let who = match (self.session(), member) {
            (Some(session), 1..) => name(&session.page, member),
            _ => "another process".to_owned(),
        };
        Error::StoreBusy {
            path: self.root.clone(),
            holder: format!(
                "{who}, which has kept {what} to itself for {:.1} s; it may have been stopped",
                self.lock_timeout.as_secs_f64()
            ),
        }
    }

    /// Refuses if the page is not the one that the store was opened with.
    pub(crate) fn check_page(&self, session: &SharedSession) -> Result<()> {
        if session.page.is_ours() {
            return Ok(());
        }
        Err(self.detached("it was deleted, replaced or overwritten while the store was open"))
    }

    /// Refuses if the page or a lock file is not where other sessions find it.
    pub(crate) fn check_in_place(&self, session: &SharedSession) -> Result<()> {
        self.check_page(session)?;
        let Locks {
            boot,
            live,
            write,
            sync,
            maint,
            numbers,
        } = &session.locks;
        if session.page.locks() != *numbers {
            return Err(self.detached("it names other lock files"));
        }
        [boot, live, write, sync, maint]
            .into_iter()
            .try_for_each(Lock::check_in_place)
    }

    /// The error of a page that contradicts the log.
    pub(crate) fn detached(&self, reason: &str) -> Error {
        Error::detached(&self.root.join("coord.shm"), reason)
    }
}

impl Maintenance for Coord {
    fn acquire(&self) -> Result<Box<dyn MaintenanceGuard + '_>> {
        Ok(Box::new(self.maintain()?))
    }

    fn shared_generation(&self) -> Option<u64> {
        self.shared().map(|session| session.page.generation())
    }

    fn publish_generation(&self, generation: u64) {
        if let Some(session) = self.shared() {
            session.page.set_generation(generation);
        }
    }

    fn is_joinable(&self) -> bool {
        self.session().is_some()
    }

    fn contradiction(&self, reason: &str) -> Error {
        self.detached(reason)
    }
}

impl MaintenanceGuard for MaintenancePass<'_> {}
