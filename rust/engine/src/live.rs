//! The open log: what readers, the committer and subscriptions share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::lock::{Mutex, RwLock};

use crate::error::{Error, Result};
use crate::frame::Seed;
use crate::index::{Index, MemoryIndex};
use crate::log::Segments;
use crate::names::Hasher128Keyed;
use crate::read::Cache;
use crate::watch::Watch;

/// An open log.
#[derive(Debug)]
pub(crate) struct LiveLog {
    pub(crate) segments: Segments,
    pub(crate) seed: Seed,
    pub(crate) hasher: Hasher128Keyed,
    /// Durable commits only: nothing else is visible to anyone but the commit's checks.
    pub(crate) index: RwLock<MemoryIndex>,
    pub(crate) cache: Cache,
    pub(crate) watch: Arc<Watch>,
    pub(crate) counters: Counters,
    poison: Mutex<Option<String>>,
    poisoned: AtomicBool,
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
        index: MemoryIndex,
        cache: Cache,
        seed: Seed,
        hasher: Hasher128Keyed,
    ) -> Self {
        Self {
            segments,
            seed,
            hasher,
            watch: Watch::starting_at(index.head()),
            index: RwLock::new(index),
            cache,
            counters: Counters::default(),
            poison: Mutex::new(None),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Stops all writing for good; the first reason stays. Answers whether this is the first.
    pub(crate) fn poison(&self, reason: String) -> bool {
        let is_first = {
            let mut poison = self.poison.lock();
            let is_first = poison.is_none();
            poison.get_or_insert(reason);
            is_first
        };
        self.poisoned.store(true, Ordering::Release);
        self.watch.end();
        is_first
    }

    /// Whether all writing has been stopped.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// The error of a poisoned store, if it is one.
    pub(crate) fn health(&self) -> Result<()> {
        if !self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::Poisoned {
            reason: self.poison.lock().clone().unwrap_or_default(),
        })
    }
}
