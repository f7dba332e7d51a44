//! Several processes on one store.
//!
//! * `page`: what they share in memory. `locks`: what keeps them apart. `member`: who is here.
//!
//! | lock | held | order |
//! |---|---|---|
//! | `boot` | while a store is opened, or left by the last | 1 |
//! | `live`, the directory itself | alone by the only process; shared by several | 2 |
//! | `write` | while a group is judged and written | 3 |
//! | `maint` | while files are made, filled ahead or listed | 4 |
//! | `sync` | while the log is synced | 5 |
//!
//! A process that has the store to itself holds `live` alone and takes no lock besides; it
//! pays nothing for what others might want. Another one knocks, and from then on both take
//! the locks. A lock is taken only by who holds none of a higher number.

mod locks;
mod member;
mod page;
mod reserve;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) use locks::{Lock, LockGuard, RECHECK, Turn};
pub use member::Member;
pub(crate) use member::{Entry, alive, is_anyone_alive, members, sightings};
pub(crate) use page::{LockNumbers, Mark, PROTOCOL, Page, Phase, Stranger};
pub use reserve::LONGEST_RESERVATION;
pub(crate) use reserve::Reserved;

use crate::error::{Error, Result};
use crate::log::{Layout, Maintenance, MaintenanceGuard};
use crate::vfs::Hold;
use locks::{Gate, Passage};
use member::{is_alive, name};
use reserve::LocalReservation;

/// How this process has the store, together with others or not.
#[derive(Debug)]
pub(crate) struct Coord {
    root: PathBuf,
    /// `None` where nobody else can come in for as long as the store is open.
    joint: Option<Joint>,
    shared: AtomicBool,
    maint: Gate,
    /// The reservation of a store that nobody else can open.
    reservation: LocalReservation,
    /// How long another process is waited for.
    patience: Duration,
}

/// What is needed to share a store.
#[derive(Debug)]
pub(crate) struct Joint {
    pub(crate) page: Page,
    pub(crate) locks: Locks,
    pub(crate) entry: Entry,
}

/// The locks beside `live`.
#[derive(Debug)]
pub(crate) struct Locks {
    pub(crate) boot: Lock,
    pub(crate) live: Lock,
    pub(crate) write: Lock,
    pub(crate) sync: Lock,
    pub(crate) maint: Lock,
    /// What tells these files from others at the same paths, as of the opening.
    pub(crate) numbers: LockNumbers,
}

impl Coord {
    /// Of a store that is this opening's alone until it is closed.
    pub(crate) fn alone(layout: &Layout) -> Self {
        Self::new(layout, None, false, Duration::ZERO)
    }

    pub(crate) fn new(
        layout: &Layout,
        joint: Option<Joint>,
        shared: bool,
        patience: Duration,
    ) -> Self {
        Self {
            root: layout.root.clone(),
            joint,
            shared: AtomicBool::new(shared),
            maint: Gate::new(),
            reservation: LocalReservation::default(),
            patience,
        }
    }

    /// The means to share the store, whether others are in it or not.
    pub(crate) fn joint(&self) -> Option<&Joint> {
        self.joint.as_ref()
    }

    /// The means to share the store, if it is shared: every lock has to be taken then.
    ///
    /// A store becomes shared only under the locks that keep this process's own threads
    /// apart (see [`Coord::share`]), and is then until it is closed.
    pub(crate) fn shared(&self) -> Option<&Joint> {
        self.joint
            .as_ref()
            .filter(|_| self.shared.load(Ordering::SeqCst))
    }

    /// Lets others in, if one has knocked: `publish` writes down where the log is. The caller
    /// holds the writer, the passage of [`Coord::maintain`], and the lead of the syncs.
    ///
    /// Who knocks holds `boot`, but who wants the store alone does not, and may come between
    /// the two states of the lock. The error says that this process has no lock on the store
    /// any more, and must not write to it.
    ///
    /// `is_stopped` is asked when all of this process take the store for shared: who stopped
    /// before that took it for its own, and told nobody.
    pub(crate) fn share(
        &self,
        publish: impl FnOnce(&Page),
        is_stopped: impl FnOnce() -> bool,
    ) -> Result<()> {
        let Some(joint) = self.joint.as_ref() else {
            return Ok(());
        };
        publish(&joint.page);
        self.shared.store(true, Ordering::SeqCst);
        if is_stopped() {
            joint.page.poison();
        }
        joint.page.set_phase(Phase::Shared);
        if joint.locks.live.try_take(Hold::Shared)? {
            return Ok(());
        }
        let reason = "another process took the store for itself alone";
        Err(Error::detached(&self.root, reason))
    }

    /// The reservation that is recorded, whether it is in force or not.
    pub(crate) fn reserved(&self) -> Option<Reserved> {
        match self.joint() {
            Some(joint) => joint.page.reserved(),
            None => self.reservation.get(),
        }
    }

    /// Records a reservation; `false` if another one is in force.
    pub(crate) fn reserve(&self, layout: &Layout, new: Reserved, now: u64) -> bool {
        let Some(joint) = self.joint() else {
            return self.reservation.set(new, now);
        };
        let held = joint.page.reserved();
        let held_id = held.map_or(0, |held| held.id);
        let is_in_force =
            |held: Reserved| held.is_in_force(now) && self.is_session_alive(layout, held.member);
        if held.is_some_and(is_in_force) {
            return false;
        }
        joint.page.reserve(held_id, &new)
    }

    /// Ends a reservation, unless it has ended.
    pub(crate) fn release(&self, id: u64) {
        match self.joint() {
            Some(joint) => joint.page.release(id),
            None => self.reservation.clear(id),
        }
    }

    /// Whether the session with this number, from 1, is alive. One of which that can't be found
    /// out counts as alive.
    pub(crate) fn is_session_alive(&self, layout: &Layout, member: u64) -> bool {
        let own = self.joint().map_or(0, |joint| joint.entry.number());
        let number = usize::try_from(member.wrapping_sub(1)).ok();
        member == own
            || number.is_none_or(|number| is_alive(layout, number).ok().flatten().unwrap_or(true))
    }

    /// The time by which another process must have freed a lock.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// Alone among the threads of this process, and among processes if the store is shared,
    /// with the files that stand beside the log.
    pub(crate) fn maintain(&self) -> Result<Passage<'_>> {
        self.maint.enter(|| match self.shared() {
            None => Ok(None),
            Some(joint) => match joint.locks.maint.hold_by(self.deadline())? {
                Some(held) => Ok(Some(held)),
                None => Err(self.stalled("the files of its log", 0)),
            },
        })
    }

    /// The error of a lock that was not to be had: somebody stopped while holding it.
    pub(crate) fn stalled(&self, what: &str, member: u64) -> Error {
        let who = match (self.joint(), member) {
            (Some(joint), 1..) => name(&joint.page, member),
            _ => "another process".to_owned(),
        };
        Error::StoreBusy {
            path: self.root.clone(),
            holder: format!(
                "{who}, which has kept {what} to itself for {:.1} s; it may have been stopped",
                self.patience.as_secs_f64()
            ),
        }
    }

    /// Refuses if the page is not what it was when the store was opened.
    pub(crate) fn check_page(&self, joint: &Joint) -> Result<()> {
        if joint.page.is_ours() {
            return Ok(());
        }
        Err(self.detached("it was deleted, replaced or overwritten while the store was open"))
    }

    /// Refuses if anything that processes come together by is not where others find it.
    pub(crate) fn check_in_place(&self, joint: &Joint) -> Result<()> {
        self.check_page(joint)?;
        let Locks {
            boot,
            live,
            write,
            sync,
            maint,
            numbers,
        } = &joint.locks;
        if joint.page.locks() != *numbers {
            return Err(self.detached("it names other lock files"));
        }
        [boot, live, write, sync, maint]
            .into_iter()
            .try_for_each(Lock::check_in_place)
    }

    /// The page says what cannot be.
    pub(crate) fn detached(&self, reason: &str) -> Error {
        Error::detached(&self.root.join("coord.shm"), reason)
    }
}

impl Maintenance for Coord {
    fn acquire(&self) -> Result<Box<dyn MaintenanceGuard + '_>> {
        Ok(Box::new(self.maintain()?))
    }

    fn shared_generation(&self) -> Option<u64> {
        self.shared().map(|joint| joint.page.generation())
    }

    fn publish_generation(&self, generation: u64) {
        if let Some(joint) = self.shared() {
            joint.page.set_generation(generation);
        }
    }

    fn is_joinable(&self) -> bool {
        self.joint().is_some()
    }

    fn contradiction(&self, reason: &str) -> Error {
        self.detached(reason)
    }
}

impl MaintenanceGuard for Passage<'_> {}
