//! Waits for the head to move: blocked threads and registered wake-ups.

mod filtered;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::chunk::NewEvents;
use crate::filter::OwnedFilter;
use crate::mutex::{Condvar, Mutex};
use filtered::{FilteredWaiters, Waiter};

type Wake = Box<dyn FnOnce() + Send>;

/// The durable head and its waiters.
#[derive(Default)]
pub(crate) struct Watch {
    head: AtomicU64,
    ended: AtomicBool,
    /// Whether a waiter has to be woken by the next delivery.
    due: AtomicBool,
    /// Number of waiters. The committer reads it instead of locking `waiters` for each commit.
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

    /// Publish a new head. All events up to it are durable and indexed. The waiters are woken by
    /// the next [`Watch::deliver`].
    pub(crate) fn publish(&self, head: u64) {
        // Sequentially consistent: a waiter is counted before it reads the head, and this thread
        // moves the head before it reads the count. At least one of the two sees the other.
        // `fetch_max`, because another thread may have published a later head meanwhile.
        if self.head.fetch_max(head, Ordering::SeqCst) < head
            && self.waiting.load(Ordering::SeqCst) > 0
        {
            self.due.store(true, Ordering::SeqCst);
        }
    }

    /// Whether there are waiters.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// End all waits for good. The waiters are woken by the next [`Watch::deliver`].
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.due.store(true, Ordering::SeqCst);
    }

    /// Wake the waiters that are due. A wake-up may call the store, so the caller must hold no lock
    /// of the store.
    ///
    /// `load` returns the events between two positions, or `None` if that would take long or fails.
    /// After `None`, all waiters for these events are woken.
    pub(crate) fn deliver(&self, load: impl FnOnce(u64, u64) -> Option<NewEvents>) {
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
        // The scan comes last, so that no other waiter has to wait for it.
        if let Some(scanned) = filtered {
            self.deliver_filtered(scanned, load);
        }
    }

    /// Wake the waiters whose filters match an event after `scanned`.
    ///
    /// Several threads may do this at the same time. Each of them scans all events after a position
    /// that was completely scanned before. A waiter that registers meanwhile misses none: its
    /// position is not below the head, and the head is not below the scanned position.
    fn deliver_filtered(&self, scanned: u64, load: impl FnOnce(u64, u64) -> Option<NewEvents>) {
        // Read the head first. A head that is published later is followed by its own delivery.
        let head = self.head.load(Ordering::SeqCst);
        let ended = self.ended.load(Ordering::SeqCst);
        // Load without the lock, so that registrations do not wait for the disk.
        let events = if ended { None } else { load(scanned, head) };
        let sources = events
            .as_ref()
            .and_then(|events| Some((events.sources()?, events.head)));
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

    /// Count the caller as a waiter before it starts to wait.
    pub(crate) fn begin_to_wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Wait until the head is beyond `position`, the store ends, or the timeout is over. Return the
    /// head.
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

    /// Call `wake` once, when the head is beyond `position` or the store ends.
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

    /// Call `wake` once, when an event beyond `position` matches or may match `filter`, or when the
    /// store ends.
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
        // The head is read while the lock is held. If a delivery has already scanned up to some
        // head, this thread reads that head or a later one. Every later delivery finds the waiter.
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
                None => waiters
                    .wakes
                    .iter()
                    .position(|(waiting, _, _)| *waiting == id),
            };
            (i.map(|i| waiters.wakes.swap_remove(i)), filtered)
        };
        // The waiter is dropped after the lock was released: its wake-up may own another guard, and
        // dropping that guard acquires the lock.
        if unfiltered.is_some() || filtered.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Call a wake-up. A panic in it has been reported by the panic hook and must not end the thread,
/// which commits the appends of all callers.
fn call(wake: Wake) {
    let _reported_by_the_panic_hook = catch_unwind(AssertUnwindSafe(wake));
}

/// A counted waiter. Dropping it removes it from the count.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Watch);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A registered wake-up. Dropping it cancels the registration.
#[derive(Debug)]
pub struct WaitGuard {
    watch: Weak<Watch>,
    id: u64,
}

impl WaitGuard {
    /// Return the position up to which no event matches the filter of a wake-up that
    /// [`crate::Store::on_match`] has registered. Return `None` after the wake-up was called, and
    /// for a wake-up without a filter.
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
