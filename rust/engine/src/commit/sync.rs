//! The sync phase: one caller syncs for all, then the commits become visible.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lock::{Condvar, Mutex};

use super::{Tail, Written};
use crate::error::Result;
use crate::index::Index;
use crate::live::LiveLog;
use crate::log::{Marker, Seal, Segment};

/// Between written and durable.
#[derive(Debug)]
pub(super) struct Syncer {
    log: Arc<LiveLog>,
    /// The tail as of the last completed write.
    published: Mutex<Tail>,
    /// Written frames that the index does not have yet, in the order of the log.
    unsynced: Mutex<VecDeque<Written>>,
    durable: AtomicU64,
    /// End of the last durable frame. After a roll `durable` may be ahead of it, at a place
    /// where no frame stands yet.
    durable_end: AtomicU64,
    /// The chain there. The two are of one frame for whoever holds `unsynced`.
    durable_chain: AtomicU64,
    syncing: Mutex<bool>,
    synced: Condvar,
    /// Held while the marker of a poisoned store is written; true once none may be.
    marking: Mutex<bool>,
}

impl Syncer {
    pub(super) fn new(log: Arc<LiveLog>, tail: Tail) -> Self {
        Self {
            log,
            durable: AtomicU64::new(tail.address),
            durable_end: AtomicU64::new(tail.address),
            durable_chain: AtomicU64::new(tail.chain),
            published: Mutex::new(tail),
            unsynced: Mutex::default(),
            syncing: Mutex::new(false),
            synced: Condvar::new(),
            marking: Mutex::new(false),
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
    pub(super) fn publish(&self, tail: &Tail, entries: impl IntoIterator<Item = Written>) {
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
            self.poison("the syncing thread panicked".to_owned());
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
        let vfs = &self.log.segments.layout.vfs;
        vfs.at("durable");
        let Some(head) = self.index_up_to(tail.address) else {
            return;
        };
        vfs.at("indexed");
        // The index knows the commits, and the head shows them, before anyone is answered.
        self.log.watch.publish(head);
        vfs.at("shown");
        self.durable.store(tail.address, Ordering::Release);
    }

    /// Whether the segment is durable; poisons if not.
    fn sync_segment(&self, segment: &Segment) -> bool {
        if let Err(e) = segment.file.sync_data() {
            // A second sync could succeed without the data.
            self.poison(format!("could not sync {}: {e}", segment.path.display()));
        }
        // Another sync of the file may have failed meanwhile, and have heard of what this
        // one was for.
        self.log.health().is_ok()
    }

    /// Makes what is durable visible and answers the head, unless the store is poisoned by
    /// now. A frame that the index can't take is durable all the same, but nobody may build
    /// on it.
    fn index_up_to(&self, address: u64) -> Option<u64> {
        let mut unsynced = self.unsynced.lock();
        // The marker of a poisoned store has told how far the log is durable: what became so
        // later will be cut off, and nobody may be told of it.
        self.log.health().ok()?;
        let mut index = self.log.index.write();
        while let Some(written) = unsynced.pop_front_if(|w| w.entry.end() <= address) {
            let entry = &written.entry;
            if let Err(unfit) = index.apply(entry) {
                let place = entry.address;
                drop((index, unsynced));
                self.poison(format!(
                    "could not index the frame at address {place}: {unfit}"
                ));
                return None;
            }
            self.durable_chain.store(written.chain, Ordering::Release);
            self.durable_end.store(entry.end(), Ordering::Release);
        }
        Some(index.head())
    }

    /// Stops all writing for good, and leaves word of it for the next opening.
    pub(super) fn poison(&self, reason: String) {
        let marking = self.marking.lock();
        let durable = {
            let _nothing_becomes_durable = self.unsynced.lock();
            if !self.log.poison(reason.clone()) {
                return;
            }
            Seal {
                address: self.durable_end(),
                chain: self.durable_chain.load(Ordering::Acquire),
            }
        };
        if !*marking {
            self.leave_marker(durable, reason);
        }
    }

    fn leave_marker(&self, durable: Seal, reason: String) {
        let segments = &self.log.segments;
        let marker = Marker {
            store: segments.identity.uuid,
            durable,
            reason,
        };
        // The disk that failed may well refuse this too. Without the marker recovery does as
        // after a crash: it keeps what it reads and writes the same bytes again.
        let _best_effort = marker.place(&segments.layout);
    }

    /// Returns once no marker is being written, and none will be: the directory is about to
    /// be somebody else's, whose commits a late marker would cut off.
    pub(super) fn end(&self) {
        *self.marking.lock() = true;
    }
}
