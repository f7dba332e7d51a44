//! The coordination of the processes that have one store open.
//!
//! | file | contents |
//! |---|---|
//! | `page` | the memory that the processes share: its words, its identity, the store's state |
//! | `log_ends` | the written end and the durable end of the log in the page |
//! | `notifications` | how a session notifies all sessions of new commits |
//! | `join_requests` | how a session asks to share a store that another session holds alone |
//! | `process_locks` | the lock files, and the locks between processes and threads |
//! | `ticket_lock` | the order in which waiting sessions acquire the write lock |
//! | `lock_timeout` | how long a thread waits for a lock that another session holds |
//! | `session` | the sessions that have the store open: their slots, heartbeats and counters |
//! | `reservation` | reservations of streams |
//!
//! | lock | held | order |
//! |---|---|---|
//! | `boot` | while a session begins, or while the last session ends | 1 |
//! | `live` (a lock on the store's directory) | exclusively by one session, or shared by several | 2 |
//! | `write` | while a batch is validated and written | 3 |
//! | `maint` | while files are created, listed, or filled with zeros in advance | 4 |
//! | `sync` | while the log is synced | 5 |
//!
//! While a session has the store to itself, it holds `live` exclusively and acquires none of the
//! locks below it in the table. A second session sends a join request. From then on the store is
//! shared, and both sessions acquire the locks. A thread acquires a lock only while it holds no
//! lock with a higher number. With that order, no two sessions can wait for each other.

mod join_requests;
mod lock_timeout;
mod log_ends;
mod notifications;
mod page;
mod process_locks;
mod reservation;
mod session;
mod ticket_lock;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) use lock_timeout::{RECHECK, WaitBudget};
pub(crate) use log_ends::LogPoint;
pub(crate) use page::{CoordPage, LockNumbers, PROTOCOL, Phase, Unjoinable};
pub(crate) use process_locks::{Lock, LockGuard};
pub use reservation::LONGEST_RESERVATION;
pub(crate) use reservation::Reserved;
pub use session::Session;
pub(crate) use session::{
    SessionSlot, has_live_session, live_session_names, live_sessions, sessions,
};
pub(crate) use ticket_lock::TicketGuard;

use crate::error::{Error, Result};
use crate::log::{Layout, Maintenance, MaintenanceGuard};
use crate::vfs::Hold;
use lock_timeout::LockTimeout;
use process_locks::{MaintenanceLock, MaintenanceLockGuard};
use reservation::LocalReservation;
use session::{is_alive, session_name};

/// The coordination of this session with other sessions.
#[derive(Debug)]
pub(crate) struct Coord {
    root: PathBuf,
    /// `None` if no other session can join while this one is open.
    session: Option<SharedSession>,
    /// Whether the store is shared. Set at most once and never reset. The thread that sets it holds
    /// the writer's mutex and the maintenance lock, and keeps the other threads of this session from
    /// syncing. While a thread holds the writer's mutex or the maintenance lock, or syncs, the value
    /// does not change. Uses `SeqCst`, as `LiveLog::stop` does: see [`Coord::share`].
    shared: AtomicBool,
    maint: MaintenanceLock,
    /// The reservation of a store that no other session can join.
    reservation: LocalReservation,
    lock_timeout: LockTimeout,
}

/// The page, locks and slot that a session needs to share a store.
#[derive(Debug)]
pub(crate) struct SharedSession {
    pub(crate) page: CoordPage,
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
    /// The inode numbers of the lock files when the store was opened. A replaced file has another
    /// number.
    pub(crate) numbers: LockNumbers,
}

impl Coord {
    /// Build the coordination of a session that no other session can join.
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
            lock_timeout: LockTimeout(lock_timeout),
        }
    }

    /// Return the page, the locks and the slot of this session, even if the store is not shared
    /// yet. Return `None` if no other session can join.
    pub(crate) fn session(&self) -> Option<&SharedSession> {
        self.session.as_ref()
    }

    /// Return the page, the locks and the slot of this session if the store is shared, otherwise
    /// `None`. In a shared store, the caller must acquire these locks in addition to the
    /// locks between the threads of this session.
    ///
    /// A store becomes shared only while the threads of this session are locked out (see
    /// [`Coord::share`]), and remains shared until this session ends.
    pub(crate) fn shared(&self) -> Option<&SharedSession> {
        self.session
            .as_ref()
            .filter(|_| self.shared.load(Ordering::SeqCst))
    }

    /// Share the store after a join request. `publish` records the end of the log in the page. The
    /// caller holds the writer's mutex and the maintenance lock, and no other thread of this
    /// session can sync (`Syncer::lead_unless`).
    ///
    /// Between the two states, `live` is free. The joining session holds `boot`, which keeps out a
    /// session that opens the store exclusively. But a session that does not hold `boot` may acquire
    /// `live` in that moment, for example one that finds no lock files because they were deleted.
    /// In that case an error is returned: this session has no lock on the store any
    /// more and must not write to it.
    ///
    /// `is_stopped` is called after `shared` is set. A thread that stopped this session before that
    /// has not marked the page as poisoned, so this function does. The stop and `shared` are both
    /// sequentially consistent. With a weaker ordering, the stopping thread could miss `shared`
    /// while this thread misses the stop, and the joining session would write to a poisoned store.
    pub(crate) fn share(
        &self,
        publish: impl FnOnce(&CoordPage),
        is_stopped: impl FnOnce() -> bool,
    ) -> Result<()> {
        let Some(session) = self.session.as_ref() else {
            return Ok(());
        };
        publish(&session.page);
        // Set before `shared`, because a thread that sees `shared` may check the phase. No session
        // joins before `live` is converted below.
        session.page.set_phase(Phase::Shared);
        self.shared.store(true, Ordering::SeqCst);
        if is_stopped() {
            session.page.poison();
        }
        if session.locks.live.try_lock(Hold::Shared)? {
            return Ok(());
        }
        let reason =
            "another process acquired the lock exclusively before this session could share it";
        Err(Error::detached(&self.root, reason))
    }

    /// Return the recorded reservation, even if it is no longer in force.
    pub(crate) fn reserved(&self) -> Option<Reserved> {
        match self.session() {
            Some(session) => session.page.reserved(),
            None => self.reservation.get(),
        }
    }

    /// Record a reservation. Return `false` if another reservation is in force.
    pub(crate) fn reserve(&self, layout: &Layout, new: Reserved, now: u64) -> bool {
        let Some(session) = self.session() else {
            return self.reservation.set(new, now);
        };
        let recorded = session.page.reserved();
        let recorded_id = recorded.map_or(0, |recorded| recorded.id);
        let is_in_force = |recorded: Reserved| {
            recorded.is_in_force(now) && self.is_session_alive(layout, recorded.session)
        };
        if recorded.is_some_and(is_in_force) {
            return false;
        }
        session.page.reserve(recorded_id, &new)
    }

    /// End the reservation with this id, if it is still recorded.
    pub(crate) fn release(&self, id: u64) {
        match self.session() {
            Some(session) => session.page.release(id),
            None => self.reservation.clear(id),
        }
    }

    /// Whether the session with this number, counted from 1, is alive. A session whose lock file
    /// can't be opened counts as alive.
    pub(crate) fn is_session_alive(&self, layout: &Layout, number: u64) -> bool {
        let own = self.session().map_or(0, |session| session.slot.number());
        let slot = usize::try_from(number.wrapping_sub(1)).ok();
        number == own
            || slot.is_none_or(|slot| is_alive(layout, slot).ok().flatten().unwrap_or(true))
    }

    /// Return the time at which a wait for a lock times out if the wait begins now.
    pub(crate) fn deadline(&self, budget: WaitBudget) -> Instant {
        self.lock_timeout.deadline(budget)
    }

    /// Acquire the maintenance lock among the threads of this session and, if the store is shared,
    /// among the sessions. It protects the creation, preallocation and listing of files.
    pub(crate) fn maintain(&self) -> Result<MaintenanceLockGuard<'_>> {
        self.maint.acquire(|| match self.shared() {
            None => Ok(None),
            Some(session) => match session
                .locks
                .maint
                .acquire_by(self.deadline(WaitBudget::Full))?
            {
                Some(guard) => Ok(Some(guard)),
                None => Err(self.lock_timed_out("the maintenance lock", 0)),
            },
        })
    }

    /// Build the error of a wait for a lock that timed out. `number` is the number of the session
    /// that acquired the lock last, or 0 if it is unknown.
    pub(crate) fn lock_timed_out(&self, lock: &str, number: u64) -> Error {
        let holder = match (self.session(), number) {
            (Some(session), 1..) => session_name(&session.page, number),
            _ => "another process".to_owned(),
        };
        self.lock_timeout.expired(&self.root, &holder, lock)
    }

    /// Return an error if the page at its path is not the one that the store was opened with.
    pub(crate) fn check_page(&self, session: &SharedSession) -> Result<()> {
        if session.page.is_ours() {
            return Ok(());
        }
        Err(self.detached("it was deleted, replaced or overwritten while the store was open"))
    }

    /// Return an error if the page or a lock file is not at the path where other sessions look for
    /// it, or if no other session could join through the page. The store is shared.
    pub(crate) fn check_in_place(&self, session: &SharedSession) -> Result<()> {
        self.check_page(session)?;
        self.check_joinable(session, Phase::Shared)?;
        let Locks {
            boot,
            live,
            write,
            sync,
            maint,
            numbers,
        } = &session.locks;
        if session.page.locks() != *numbers {
            return Err(
                self.detached("it records other lock files than those that this session has open")
            );
        }
        [boot, live, write, sync, maint]
            .into_iter()
            .try_for_each(Lock::check_in_place)
    }

    /// Return an error if the page was overwritten, so that no other session could join through it.
    pub(crate) fn check_joinable(&self, session: &SharedSession, phase: Phase) -> Result<()> {
        if session.page.has_our_session() && session.page.is_joinable(phase) {
            return Ok(());
        }
        Err(self.detached("it was overwritten, and no other session could join it"))
    }

    /// Build the error of a page that is missing, was replaced, or contradicts the log.
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

impl MaintenanceGuard for MaintenanceLockGuard<'_> {}
