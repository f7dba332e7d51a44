//! Locks between processes, each combined with a lock between the threads of this process.
//!
//! The kernel releases them when their holder dies, whatever the cause. A deleted lock file could
//! be locked twice under one path, so the path is checked again after each lock is acquired.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::page::CoordPage;
use crate::error::{Error, Result};
use crate::lock::{Mutex, MutexGuard};
use crate::vfs::{Hold, LockFile, Vfs};

/// The time within which the session with the served ticket must acquire the lock, and the interval
/// at which a lock is tried again whose holder may die without a notification.
pub(crate) const RECHECK: Duration = Duration::from_millis(3);

/// An open lock file of the store.
#[derive(Clone, Debug)]
pub(crate) struct Lock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    vfs: Arc<dyn Vfs>,
    file: Arc<dyn LockFile>,
    path: PathBuf,
    /// Whether a thread of this process holds the lock exclusively. The kernel's lock belongs to
    /// the open file, so without this flag a second thread would acquire it as well.
    is_locked: AtomicBool,
}

impl Lock {
    pub(crate) fn open(vfs: &Arc<dyn Vfs>, path: PathBuf, create: bool) -> Result<Self> {
        let file = vfs.open_lock(&path, create);
        let file = file.map_err(|e| Error::io(&path, "lock", &e))?;
        let is_locked = AtomicBool::new(false);
        Ok(Self(Arc::new(Inner {
            vfs: Arc::clone(vfs),
            file,
            path,
            is_locked,
        })))
    }

    /// Acquire it exclusively or shared, if no other process prevents that.
    pub(crate) fn try_lock(&self, hold: Hold) -> Result<bool> {
        let error = |e| Error::io(&self.0.path, "lock", &e);
        if !self.0.file.try_lock(hold).map_err(error)? {
            return Ok(false);
        }
        self.check_in_place().inspect_err(|_| self.release())?;
        Ok(true)
    }

    /// Return an error if the path names another file by now, or none.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        let is_in_place = self.0.file.is_in_place();
        if is_in_place.map_err(|e| Error::io(&self.0.path, "look up", &e))? {
            return Ok(());
        }
        let reason = "this lock file was deleted or replaced while the store was open";
        Err(Error::detached(&self.0.path, reason))
    }

    /// Return the inode number of the file.
    pub(crate) fn number(&self) -> Result<u64> {
        let number = self.0.file.number();
        number.map_err(|e| Error::io(&self.0.path, "look at", &e))
    }

    /// Return the number of hard links of the file.
    pub(crate) fn links(&self) -> Result<u64> {
        let links = self.0.file.links();
        links.map_err(|e| Error::io(&self.0.path, "look at", &e))
    }

    /// Release it. This can fail only for a file that is not open, which has no lock.
    pub(crate) fn release(&self) {
        let _freed = self.0.file.unlock();
    }

    /// Acquire it exclusively, if it is free.
    pub(crate) fn try_acquire(&self) -> Result<Option<LockGuard>> {
        if self.0.is_locked.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        let taken = self.try_lock(Hold::Exclusive);
        if matches!(taken, Ok(true)) {
            return Ok(Some(LockGuard { lock: self.clone() }));
        }
        self.0.is_locked.store(false, Ordering::SeqCst);
        taken.map(|_| None)
    }

    /// Acquire it exclusively before the deadline.
    pub(crate) fn acquire_by(&self, deadline: Instant) -> Result<Option<LockGuard>> {
        let mut pause = Duration::from_micros(100);
        loop {
            if let Some(held) = self.try_acquire()? {
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

/// An exclusively held lock. Dropping the guard releases it.
#[derive(Debug)]
pub(crate) struct LockGuard {
    lock: Lock,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.lock.release();
        self.lock.0.is_locked.store(false, Ordering::SeqCst);
    }
}

/// The write lock, acquired in ticket order.
#[derive(Debug)]
pub(crate) struct TicketGuard {
    page: CoordPage,
    ticket: u64,
    held: Option<LockGuard>,
    /// Whether another session held the lock.
    pub(crate) waited: bool,
}

impl TicketGuard {
    /// Wait for the write lock, or return `None` after the deadline.
    ///
    /// The served ticket can't be trusted: a process may die with its ticket, and any program may
    /// write to the page. So the tickets only order the waiting sessions, and the kernel's lock
    /// decides which one writes.
    pub(crate) fn acquire(
        lock: &Lock,
        page: &CoordPage,
        deadline: Instant,
    ) -> Result<Option<Self>> {
        let ticket = page.draw_ticket();
        let mut waited = false;
        let now = || lock.0.vfs.uptime_micros();
        let (mut last, mut since) = (page.serving(), now());
        loop {
            let seen = page.wait_slot_value(ticket);
            let serving = page.serving();
            if serving != last {
                (last, since) = (serving, now());
            }
            // The session with the served ticket may be dead.
            let is_overdue = || u128::from(now() - since) >= RECHECK.as_micros();
            let left = deadline.saturating_duration_since(Instant::now());
            // The lock is also tried at the deadline: the session with the ticket before may be
            // gone.
            if (serving >= ticket || left.is_zero() || is_overdue())
                && let Some(held) = lock.try_acquire()?
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
                // This session gives up its ticket. If it is served by now, no other session would
                // serve the next one.
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
        // The lock is released before the next ticket is served, so that its session finds the lock
        // free.
        drop(self.held.take());
        self.page.serve(self.ticket.wrapping_add(1));
    }
}

/// The maintenance lock: between threads always, between sessions only if the store is shared.
#[derive(Debug)]
pub(crate) struct MaintenanceLock {
    threads: Mutex<()>,
}

/// The held maintenance lock. Fields are dropped in order: the lock between processes is released
/// first, so that the next thread of this process finds it free.
#[derive(Debug)]
pub(crate) struct MaintenanceLockGuard<'a> {
    _held: Option<LockGuard>,
    _threads: MutexGuard<'a, ()>,
}

impl MaintenanceLock {
    pub(crate) fn new() -> Self {
        Self {
            threads: Mutex::new(()),
        }
    }

    /// Acquire the lock between threads, then the lock between sessions that `lock` acquires, if
    /// any.
    pub(crate) fn acquire(
        &self,
        lock: impl FnOnce() -> Result<Option<LockGuard>>,
    ) -> Result<MaintenanceLockGuard<'_>> {
        let threads = self.threads.lock();
        Ok(MaintenanceLockGuard {
            _held: lock()?,
            _threads: threads,
        })
    }
}
