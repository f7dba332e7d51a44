//! Locks between processes, each together with a lock between the threads of this one.
//!
//! The kernel frees them when their holder dies, whatever kills it. A lock file that was
//! deleted could be held twice, so each is checked again once it is held.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::page::Page;
use crate::error::{Error, Result};
use crate::lock::{Mutex, MutexGuard};
use crate::vfs::{Hold, LockFile, Vfs};

/// How long the holder of the next ticket may take to acquire the lock, and the interval at which
/// a lock is tried whose holder may die without a notification.
pub(crate) const RECHECK: Duration = Duration::from_millis(3);

/// A lock file of the store, opened once.
#[derive(Clone, Debug)]
pub(crate) struct Lock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    vfs: Arc<dyn Vfs>,
    file: Arc<dyn LockFile>,
    path: PathBuf,
    /// Whether a thread of this process holds it exclusively. The kernel's lock belongs to the
    /// open file, so a second thread would get it, too.
    is_held: AtomicBool,
}

impl Lock {
    pub(crate) fn open(vfs: &Arc<dyn Vfs>, path: PathBuf, create: bool) -> Result<Self> {
        let file = vfs.open_lock(&path, create);
        let file = file.map_err(|e| Error::io(&path, "lock", &e))?;
        let is_held = AtomicBool::new(false);
        Ok(Self(Arc::new(Inner {
            vfs: Arc::clone(vfs),
            file,
            path,
            is_held,
        })))
    }

    /// Acquires it exclusively or shared, if no other process prevents that.
    pub(crate) fn try_take(&self, hold: Hold) -> Result<bool> {
        let error = |e| Error::io(&self.0.path, "lock", &e);
        if !self.0.file.try_lock(hold).map_err(error)? {
            return Ok(false);
        }
        self.check_in_place().inspect_err(|_| self.free())?;
        Ok(true)
    }

    /// Refuses if the path names another file by now, or none.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        let is_in_place = self.0.file.is_in_place();
        if is_in_place.map_err(|e| Error::io(&self.0.path, "look up", &e))? {
            return Ok(());
        }
        let reason = "this lock file was deleted or replaced while the store was open";
        Err(Error::detached(&self.0.path, reason))
    }

    /// The number that the file system gives the file.
    pub(crate) fn number(&self) -> Result<u64> {
        let number = self.0.file.number();
        number.map_err(|e| Error::io(&self.0.path, "look at", &e))
    }

    /// The number of names that the file has.
    pub(crate) fn links(&self) -> Result<u64> {
        let links = self.0.file.links();
        links.map_err(|e| Error::io(&self.0.path, "look at", &e))
    }

    /// Releases it. That can fail only for a file that isn't open, which has no lock.
    pub(crate) fn free(&self) {
        let _freed = self.0.file.unlock();
    }

    /// Acquires it exclusively, if it is free.
    pub(crate) fn try_hold(&self) -> Result<Option<LockGuard>> {
        if self.0.is_held.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        let taken = self.try_take(Hold::Exclusive);
        if matches!(taken, Ok(true)) {
            return Ok(Some(LockGuard { lock: self.clone() }));
        }
        self.0.is_held.store(false, Ordering::SeqCst);
        taken.map(|_| None)
    }

    /// Acquires it exclusively by the deadline.
    pub(crate) fn hold_by(&self, deadline: Instant) -> Result<Option<LockGuard>> {
        let mut pause = Duration::from_micros(100);
        loop {
            if let Some(held) = self.try_hold()? {
                return Ok(Some(held));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            self.0.vfs.pause(pause);
            pause = (pause * 2).min(RECHECK);
        }
    }
}

/// A lock that is held exclusively; dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct LockGuard {
    lock: Lock,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.lock.free();
        self.lock.0.is_held.store(false, Ordering::SeqCst);
    }
}

/// The write lock, acquired in the order of the tickets.
#[derive(Debug)]
pub(crate) struct TicketGuard {
    page: Page,
    ticket: u64,
    held: Option<LockGuard>,
    /// Whether another session had the lock.
    pub(crate) waited: bool,
}

impl TicketGuard {
    /// Waits for the write lock; `None` when the deadline has passed.
    ///
    /// The number that is served next can't be trusted: a process may die with its ticket, and
    /// any program may write to the page. So the number only orders the waiting sessions, and
    /// the kernel's lock decides which one writes.
    pub(crate) fn acquire(lock: &Lock, page: &Page, deadline: Instant) -> Result<Option<Self>> {
        let ticket = page.draw_ticket();
        let mut waited = false;
        let now = || lock.0.vfs.uptime_micros();
        let (mut last, mut since) = (page.serving(), now());
        loop {
            let seen = page.calls(ticket);
            let serving = page.serving();
            if serving != last {
                (last, since) = (serving, now());
            }
            // The session whose ticket is served may be dead.
            let is_overdue = || u128::from(now() - since) >= RECHECK.as_micros();
            let left = deadline.saturating_duration_since(Instant::now());
            // At the deadline the lock is tried all the same: the session with the ticket before
            // may be gone.
            if (serving >= ticket || left.is_zero() || is_overdue())
                && let Some(held) = lock.try_hold()?
            {
                page.serve(ticket);
                return Ok(Some(Self {
                    page: page.clone(),
                    ticket,
                    held: Some(held),
                    waited,
                }));
            }
            waited = true;
            if left.is_zero() {
                // No session may wait for this ticket any more.
                if page.serving() == ticket {
                    page.serve(ticket.wrapping_add(1));
                }
                return Ok(None);
            }
            page.wait_for_turn(ticket, seen, RECHECK.min(left));
        }
    }
}

impl Drop for TicketGuard {
    fn drop(&mut self) {
        // The lock is released before the next ticket is served.
        drop(self.held.take());
        self.page.serve(self.ticket.wrapping_add(1));
    }
}

/// The maintenance lock: between threads always, between sessions if the store is shared.
#[derive(Debug)]
pub(crate) struct MaintenanceLock {
    inside: Mutex<()>,
}

/// The maintenance lock while it is held: the lock between processes is released first.
#[derive(Debug)]
pub(crate) struct MaintenancePass<'a> {
    _held: Option<LockGuard>,
    _inside: MutexGuard<'a, ()>,
}

impl MaintenanceLock {
    pub(crate) fn new() -> Self {
        Self {
            inside: Mutex::new(()),
        }
    }

    /// Acquires the lock between threads, and then the one that `lock` acquires, if any.
    pub(crate) fn enter(
        &self,
        lock: impl FnOnce() -> Result<Option<LockGuard>>,
    ) -> Result<MaintenancePass<'_>> {
        let inside = self.inside.lock();
        Ok(MaintenancePass {
            _held: lock()?,
            _inside: inside,
        })
    }
}
