//! The open log: what readers, the committer and subscriptions share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chunk::Cache;
use crate::coord::Coord;
use crate::error::{Error, Result};
use crate::frame::Seed;
use crate::index::{Index, MemoryIndex};
use crate::lock::{Mutex, RwLock};
use crate::log::{Segment, Segments};
use crate::names::Hasher128Keyed;
use crate::stats::{LocalCounters, SessionCounters};
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
    /// What this session has done; other sessions are shown these numbers.
    pub(crate) counters: SessionCounters,
    /// What this session has observed.
    pub(crate) local: LocalCounters,
    /// Why nothing more is written.
    stop: Mutex<Option<Error>>,
    stopped: AtomicBool,
}

/// What `verify` needs of the part of the engine that writes.
pub(crate) trait LogEnd {
    /// The end of the last durable frame.
    fn durable_end(&self) -> u64;

    /// The first byte beyond the log, and beyond what is being written to it, that isn't zero.
    fn stray_byte(&self) -> Result<Option<(Arc<Segment>, u64)>>;
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
            counters: SessionCounters::default(),
            local: LocalCounters::default(),
            stop: Mutex::new(None),
            stopped: AtomicBool::new(false),
        }
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
