//! The sync phase: one caller syncs for all, then the commits become visible.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lock::{Condvar, Mutex};

use super::Tail;
use crate::error::Result;
use crate::index::{FrameEntry, Index};
use crate::live::LiveLog;
use crate::log::Segment;

/// Between written and durable.
#[derive(Debug)]
pub(super) struct Syncer {
    log: Arc<LiveLog>,
    /// The tail as of the last completed write.
    published: Mutex<Tail>,
    /// Written frames that the index does not have yet, in the order of the log.
    unsynced: Mutex<VecDeque<FrameEntry>>,
    durable: AtomicU64,
    /// End of the last durable frame. After a roll `durable` may be ahead of it, at a place
    /// where no frame stands yet.
    durable_end: AtomicU64,
    syncing: Mutex<bool>,
    synced: Condvar,
}

impl Syncer {
    pub(super) fn new(log: Arc<LiveLog>, tail: Tail) -> Self {
        Self {
            log,
            durable: AtomicU64::new(tail.address),
            durable_end: AtomicU64::new(tail.address),
            published: Mutex::new(tail),
            unsynced: Mutex::default(),
            syncing: Mutex::new(false),
            synced: Condvar::new(),
        }
    }

    /// Everything below is durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The end of the last durable frame: what evidence of durability may claim.
    pub(super) fn durable_end(&self) -> u64 {
        self.durable_end.load(Ordering::Acquire)
    }

    /// The tail as of the last completed write.
    pub(super) fn published(&self) -> Tail {
        self.published.lock().clone()
    }

    /// Announces written frames to whoever syncs next. The caller holds the write lock.
    pub(super) fn publish(&self, tail: &Tail, entries: impl IntoIterator<Item = FrameEntry>) {
        self.log.segments.layout.vfs.at("publish");
        self.unsynced.lock().extend(entries);
        *self.published.lock() = tail.clone();
    }

    /// Returns once everything below `target` is durable. The caller may hold the write
    /// lock; those who wait for the head are woken by whoever delivers next.
    pub(super) fn until(&self, target: u64) -> Result<()> {
        while self.durable() < target {
            self.lead_unless(|| self.durable() >= target, || self.sync())?;
        }
        Ok(())
    }

    /// Syncs a segment, alone: the kernel tells of a failed write once, and whoever hears of
    /// it must be the one who stops everybody.
    pub(super) fn alone(&self, segment: &Segment) -> Result<()> {
        self.lead_unless(
            || false,
            || {
                self.sync_segment(segment);
            },
        )
    }

    /// Leads, unless `settled` by the time that the lead is free, or waits for who leads.
    fn lead_unless(&self, settled: impl Fn() -> bool, lead: impl FnOnce()) -> Result<()> {
        let mut syncing = self.syncing.lock();
        while *syncing {
            self.synced.wait(&mut syncing);
        }
        if settled() {
            return Ok(());
        }
        // Looked at under the lock: whoever led before and failed has poisoned by now.
        self.log.health()?;
        *syncing = true;
        drop(syncing);
        if catch_unwind(AssertUnwindSafe(lead)).is_err() {
            self.log.poison("the syncing thread panicked".to_owned());
        }
        *self.syncing.lock() = false;
        self.synced.notify_all();
        self.log.health()
    }

    fn sync(&self) {
        let tail = self.published();
        if tail.address <= self.durable() || !self.sync_segment(&tail.segment) {
            return;
        }
        self.log.counters.syncs.add(1);
        self.log.segments.layout.vfs.at("durable");
        let head = self.index_up_to(tail.address);
        // The index knows the commits, and the head shows them, before anyone is answered.
        self.log.watch.publish(head);
        self.durable.store(tail.address, Ordering::Release);
    }

    /// Whether the segment is durable; poisons if not.
    fn sync_segment(&self, segment: &Segment) -> bool {
        if let Err(e) = segment.file.sync_data() {
            // A second sync could succeed without the data.
            self.log
                .poison(format!("could not sync {}: {e}", segment.path.display()));
        }
        // Another sync of the file may have failed meanwhile, and have heard of what this
        // one was for.
        self.log.health().is_ok()
    }

    fn index_up_to(&self, address: u64) -> u64 {
        let mut unsynced = self.unsynced.lock();
        let mut index = self.log.index.write();
        while let Some(entry) = unsynced.pop_front_if(|entry| entry.end() <= address) {
            index.apply(&entry);
            self.durable_end.store(entry.end(), Ordering::Release);
        }
        index.head()
    }
}
