//! Locks between processes, each behind a lock between the threads of this one.
//!
//! The kernel frees them when their holder dies, whatever kills it. A lock file that was
//! deleted would let two holders in, so each is looked at again once it is held.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::page::Page;
use crate::error::{Error, Result};
use crate::lock::{Mutex, MutexGuard};
use crate::vfs::{Hold, LockFile, Vfs};

/// How long the holder of a ticket is waited for that does not come when it is called, and
/// how often a lock is tried whose holder can't call.
pub(crate) const RECHECK: Duration = Duration::from_millis(3);

/// A lock file of the store, opened once.
#[derive(Clone, Debug)]
pub(crate) struct Lock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    vfs: Arc<dyn Vfs>,
    file: Arc<dyn LockFile>,
    path: PathBuf,
    /// A thread of this process holds it alone: the kernel's lock belongs to the opening, and
    /// would let a second thread in.
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

    /// Takes it as asked for, if nobody else is in the way.
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

    /// What tells the file from any other that is there at the same time.
    pub(crate) fn number(&self) -> Result<u64> {
        let number = self.0.file.number();
        number.map_err(|e| Error::io(&self.0.path, "look at", &e))
    }

    /// The number of names that the file has.
    pub(crate) fn links(&self) -> Result<u64> {
        let links = self.0.file.links();
        links.map_err(|e| Error::io(&self.0.path, "look at", &e))
    }

    /// Gives it back. That can fail only for a file that isn't open, which has no lock.
    pub(crate) fn free(&self) {
        let _freed = self.0.file.unlock();
    }

    /// Takes it alone, if nobody else has it.
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

    /// Takes it alone, by the deadline.
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

/// A lock that is held alone.
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

/// The write lock, handed out in the order in which it was asked for.
#[derive(Debug)]
pub(crate) struct Turn {
    page: Page,
    ticket: u64,
    held: Option<LockGuard>,
    /// Whether somebody else had the lock.
    pub(crate) waited: bool,
}

impl Turn {
    /// Waits for the write lock; `None` when it didn't come by the deadline.
    ///
    /// Whose turn it is, a number says that may be anything: a process may die with its
    /// ticket, and any program may write to the page. So the number only orders those who
    /// wait; who writes, the kernel says.
    pub(crate) fn by(lock: &Lock, page: &Page, deadline: Instant) -> Result<Option<Self>> {
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
            // Whoever was called and doesn't come may be dead.
            let is_overdue = || u128::from(now() - since) >= RECHECK.as_micros();
            let left = deadline.saturating_duration_since(Instant::now());
            // Who can wait no longer tries all the same: the ticket before may be nobody's.
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
                // Nobody is to wait for this ticket.
                if page.serving() == ticket {
                    page.serve(ticket.wrapping_add(1));
                }
                return Ok(None);
            }
            page.wait_for_turn(ticket, seen, RECHECK.min(left));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The lock is free before the next one is called.
        drop(self.held.take());
        self.page.serve(self.ticket.wrapping_add(1));
    }
}

/// What keeps the threads of this process apart also where no other process is there.
#[derive(Debug)]
pub(crate) struct Gate {
    inside: Mutex<()>,
}

/// Passage through a [`Gate`]: the lock between processes is freed first.
#[derive(Debug)]
pub(crate) struct Passage<'a> {
    _held: Option<LockGuard>,
    _inside: MutexGuard<'a, ()>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            inside: Mutex::new(()),
        }
    }

    /// Enters, alone in this process, and then takes the lock that `lock` names, if any.
    pub(crate) fn enter(
        &self,
        lock: impl FnOnce() -> Result<Option<LockGuard>>,
    ) -> Result<Passage<'_>> {
        let inside = self.inside.lock();
        Ok(Passage {
            _held: lock()?,
            _inside: inside,
        })
    }
}
