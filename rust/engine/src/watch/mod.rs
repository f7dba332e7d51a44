//! Who waits for the head to move: blocked threads and registered wake-ups.

mod filtered;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::chunk::Stretch;
use crate::filter::OwnedFilter;
use crate::lock::{Condvar, Mutex};
use filtered::{FilteredWaiters, Waiter};

type Wake = Box<dyn FnOnce() + Send>;

/// The durable head and those who wait for it to move.
#[derive(Default)]
pub(crate) struct Watch {
    head: AtomicU64,
    ended: AtomicBool,
    /// Somebody is to be woken.
    due: AtomicBool,
    /// Spares the committer the lock while nobody waits.
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
    moved: Condvar,
}

#[derive(Default)]
struct Waiters {
    next_id: u64,
    wakes: Vec<(u64, u64, Wake)>,
    filtered: FilteredWaiters,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

impl Watch {
    pub(crate) fn starting_at(head: u64) -> Arc<Self> {
        Arc::new(Self {
            head: AtomicU64::new(head),
            ..Self::default()
        })
    }

    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Announces a new head, whose events are all durable and in the index. Whoever waits
    /// is woken by the next [`Watch::deliver`].
    pub(crate) fn publish(&self, head: u64) {
        // Sequentially consistent, against a waiter that counts itself and then looks at the
        // head: one of the two sees the other.
        // It may have been found by one thread and be announced after another's later one.
        if self.head.fetch_max(head, Ordering::SeqCst) < head
            && self.waiting.load(Ordering::SeqCst) > 0
        {
            self.due.store(true, Ordering::SeqCst);
        }
    }

    /// Whether anybody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Ends all waits for good, by the next [`Watch::deliver`].
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.due.store(true, Ordering::SeqCst);
    }

    /// Wakes those whose time has come. A wake-up may call back into the store, so whoever
    /// delivers holds no lock of it.
    ///
    /// `load` returns the events after one position and up to another one, or `None` where
    /// that would take long or fails: then all waiters for one of them are woken.
    pub(crate) fn deliver(&self, load: impl FnOnce(u64, u64) -> Option<Stretch>) {
        if !self.due.swap(false, Ordering::SeqCst) {
            return;
        }
        let (due, filtered) = {
            let mut waiters = self.waiters.lock();
            let (head, ended) = (self.head(), self.ended.load(Ordering::SeqCst));
            let all = std::mem::take(&mut waiters.wakes);
            let (due, rest): (Vec<_>, Vec<_>) = all
                .into_iter()
                .partition(|(_, position, _)| ended || *position < head);
            waiters.wakes = rest;
            self.moved.notify_all();
            let filtered = &waiters.filtered;
            (due, (!filtered.is_empty()).then(|| filtered.scanned()))
        };
        self.waiting.fetch_sub(due.len(), Ordering::SeqCst);
        for (_, _, wake) in due {
            call(wake);
        }
        // Last, so that no other waiter waits for the scan.
        if let Some(scanned) = filtered {
            self.deliver_filtered(scanned, load);
        }
    }

    /// Wakes the waiters whose filters match an event after `scanned`.
    ///
    /// Several threads may do so at the same time. Each takes in all events since a position
    /// that was scanned, so a waiter that registers in between misses none: its own position
    /// is not below the head, and the head not below what was scanned.
    fn deliver_filtered(&self, scanned: u64, load: impl FnOnce(u64, u64) -> Option<Stretch>) {
        // The head first: what is published later, another delivery follows.
        let head = self.head.load(Ordering::SeqCst);
        let ended = self.ended.load(Ordering::SeqCst);
        // Without the lock, so that registrations and reads of a position don't wait for it.
        let stretch = if ended { None } else { load(scanned, head) };
        let sources = stretch
            .as_ref()
            .and_then(|stretch| Some((stretch.sources()?, stretch.head)));
        let due = {
            let mut waiters = self.waiters.lock();
            let filtered = &mut waiters.filtered;
            match sources {
                _ if self.ended.load(Ordering::SeqCst) => filtered.take_all(),
                Some((sources, head)) => filtered.take_matching(&sources, head),
                None => filtered.take_before(head),
            }
        };
        self.waiting.fetch_sub(due.len(), Ordering::SeqCst);
        for waiter in due {
            call(Box::new(move || waiter.wake(scanned)));
        }
    }

    /// Counts the caller among those who wait, before it does.
    pub(crate) fn begin_to_wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Waits until the head is beyond `position`, the store ends, or the time is over.
    pub(crate) fn wait_beyond(&self, position: u64, timeout: Duration) -> u64 {
        let deadline = Instant::now().checked_add(timeout);
        let _waiting = self.begin_to_wait();
        let mut waiters = self.waiters.lock();
        while self.head.load(Ordering::SeqCst) <= position && !self.ended.load(Ordering::SeqCst) {
            match deadline {
                Some(deadline) => {
                    if self.moved.wait_until(&mut waiters, deadline).timed_out() {
                        break;
                    }
                }
                None => self.moved.wait(&mut waiters),
            }
        }
        drop(waiters);
        self.head()
    }

    /// Calls `wake` once, when the head is beyond `position` or the store ends.
    pub(crate) fn on_beyond(self: &Arc<Self>, position: u64, wake: Wake) -> WaitGuard {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut waiters = self.waiters.lock();
        let id = waiters.next_id;
        waiters.next_id += 1;
        if self.head.load(Ordering::SeqCst) > position || self.ended.load(Ordering::SeqCst) {
            drop(waiters);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            call(wake);
        } else {
            waiters.wakes.push((id, position, wake));
        }
        WaitGuard {
            watch: Arc::downgrade(self),
            id,
        }
    }

    /// Calls `wake` once, when an event beyond `position` matches, or may match, or the store
    /// ends. The filter is a selective one.
    pub(crate) fn on_match(
        self: &Arc<Self>,
        position: u64,
        filter: Arc<OwnedFilter>,
        wake: Box<dyn FnOnce(u64) + Send>,
    ) -> WaitGuard {
        let waiter = Waiter {
            position,
            filter,
            wake,
        };
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut waiters = self.waiters.lock();
        let id = waiters.next_id;
        waiters.next_id += 1;
        // Compared under the lock: a delivery that took in a later head comes before, and
        // then this head is not below it, or finds the waiter.
        let head = self.head.load(Ordering::SeqCst);
        if head > position || self.ended.load(Ordering::SeqCst) {
            drop(waiters);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            call(Box::new(move || waiter.wake(position)));
        } else {
            waiters.filtered.insert(id, waiter, head);
        }
        WaitGuard {
            watch: Arc::downgrade(self),
            id,
        }
    }

    fn cancel(&self, id: u64) {
        let (unfiltered, filtered) = {
            let mut waiters = self.waiters.lock();
            let filtered = waiters.filtered.remove(id);
            let i = match &filtered {
                Some(_) => None,
                None => waiters.wakes.iter().position(|(known, _, _)| *known == id),
            };
            (i.map(|i| waiters.wakes.swap_remove(i)), filtered)
        };
        // Dropped outside the lock: what it owns may be another guard.
        if unfiltered.is_some() || filtered.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Calls a wake-up; a panic in it is its owner's, whose hook has told of it, and must not
/// end the thread that commits for everybody.
fn call(wake: Wake) {
    let _told_by_the_panic_hook = catch_unwind(AssertUnwindSafe(wake));
}

/// One who waits, or is about to.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Watch);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A registered wake-up; dropping it cancels.
#[derive(Debug)]
pub struct WaitGuard {
    watch: Weak<Watch>,
    id: u64,
}

impl WaitGuard {
    /// The position up to which no event matches the filter of a wake-up that is registered
    /// by [`crate::Store::on_match`]; `None` once it was woken, and for one without a filter.
    pub fn passed(&self) -> Option<u64> {
        let watch = self.watch.upgrade()?;
        let waiters = watch.waiters.lock();
        waiters.filtered.passed(self.id)
    }
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.upgrade() {
            watch.cancel(self.id);
        }
    }
}
