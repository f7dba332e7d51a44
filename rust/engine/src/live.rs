//! The open log: what readers, the committer and subscriptions share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::lock::{Mutex, RwLock};

use crate::coord::Coord;
use crate::error::{Error, Result};
use crate::frame::Seed;
use crate::index::{Index, MemoryIndex};
use crate::log::Segments;
use crate::names::Hasher128Keyed;
use crate::read::{Cache, Effort};
use crate::watch::Watch;

/// An open log.
#[derive(Debug)]
pub(crate) struct LiveLog {
    pub(crate) segments: Segments,
    pub(crate) coord: Arc<Coord>,
    pub(crate) seed: Seed,
    pub(crate) hasher: Hasher128Keyed,
    /// Durable commits only: nothing else is visible to anyone but the commit's checks.
    pub(crate) index: RwLock<MemoryIndex>,
    pub(crate) cache: Cache,
    pub(crate) watch: Arc<Watch>,
    pub(crate) counters: Counters,
    /// Why nothing more is written.
    stop: Mutex<Option<Error>>,
    stopped: AtomicBool,
}

/// What has happened since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appends: Counter,
    pub(crate) commits: Counter,
    pub(crate) events: Counter,
    pub(crate) groups: Counter,
    pub(crate) syncs: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) replays: Counter,
    /// Times that another process was waited for.
    pub(crate) waits: Counter,
    /// Times that the wall clock was found to have been set.
    pub(crate) clock_jumps: Counter,
    pub(crate) cache_hits: Counter,
    pub(crate) cache_misses: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl LiveLog {
    pub(crate) fn new(
        segments: Segments,
        coord: Arc<Coord>,
        index: MemoryIndex,
        cache: Cache,
        seed: Seed,
        hasher: Hasher128Keyed,
    ) -> Self {
        Self {
            segments,
            coord,
            seed,
            hasher,
            watch: Watch::starting_at(index.head()),
            index: RwLock::new(index),
            cache,
            counters: Counters::default(),
            stop: Mutex::new(None),
            stopped: AtomicBool::new(false),
        }
    }

    /// Wakes the waiters whose time has come. The caller holds no lock of the store, and
    /// `effort` is whether it may wait for the disk.
    pub(crate) fn deliver(&self, effort: Effort) {
        self.watch
            .deliver(|after, head| self.stretch(after, head, effort));
    }

    /// Stops all writing for good; the first reason stays. Answers whether this is the first.
    pub(crate) fn stop(&self, reason: Error) -> bool {
        let is_first = {
            let mut stop = self.stop.lock();
            let is_first = stop.is_none();
            stop.get_or_insert(reason);
            is_first
        };
        // Sequentially consistent, against who shares the store and then asks whether it has
        // stopped: one of the two sees the other.
        self.stopped.store(true, Ordering::SeqCst);
        self.watch.end();
        is_first
    }

    /// Whether all writing has been stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Whether all writing has been stopped by a failed sync.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.is_stopped() && matches!(*self.stop.lock(), Some(Error::Poisoned { .. }))
    }

    /// The error of a store that has stopped writing, if it has.
    pub(crate) fn health(&self) -> Result<()> {
        if !self.is_stopped() {
            return Ok(());
        }
        Err(self.stop.lock().clone().unwrap_or(Error::Closed))
    }
}
