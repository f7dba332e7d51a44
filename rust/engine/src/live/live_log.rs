//! The open log: the state that readers, the committer and subscriptions share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chunk::ChunkCache;
use crate::coord::Coord;
use crate::error::{Error, Result};
use crate::frame::Seed;
use crate::index::{Index, MemoryIndex};
use crate::log::{Segment, Segments};
use crate::mutex::{Mutex, RwLock};
use crate::names::NameHasher;
use crate::stats::{LocalCounters, SessionCounters};
use crate::watch::Watch;

/// An open log.
#[derive(Debug)]
pub(crate) struct LiveLog {
    pub(crate) segments: Segments,
    pub(crate) coord: Arc<Coord>,
    pub(crate) seed: Seed,
    pub(crate) hasher: NameHasher,
    /// Durable commits only. Only validation sees written frames that are not durable yet.
    pub(crate) index: RwLock<MemoryIndex>,
    pub(crate) cache: ChunkCache,
    pub(crate) watch: Arc<Watch>,
    /// Counters of this session that other sessions can read too.
    pub(crate) counters: SessionCounters,
    /// Counters of this session for its own reports.
    pub(crate) local: LocalCounters,
    /// The reason for which the store has stopped writing.
    stop: Mutex<Option<Error>>,
    /// Whether `stop` has a reason, readable without the lock. Set after `stop`, so that a thread
    /// that reads true also finds the reason.
    stopped: AtomicBool,
}

/// The part of the committer that `verify` needs.
pub(crate) trait LogEnd {
    /// Return the end of the last durable frame.
    fn durable_end(&self) -> u64;

    /// Wait for a write in progress, then return the first non-zero byte after the end of the log.
    fn stray_byte(&self) -> Result<Option<(Arc<Segment>, u64)>>;
}

impl LiveLog {
    pub(crate) fn new(
        segments: Segments,
        coord: Arc<Coord>,
        index: MemoryIndex,
        cache: ChunkCache,
        seed: Seed,
        hasher: NameHasher,
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

    /// Stop all writing for good. Only the first reason is kept. Return whether this reason is the
    /// first.
    pub(crate) fn stop(&self, reason: Error) -> bool {
        let is_first = {
            let mut stop = self.stop.lock();
            let is_first = stop.is_none();
            stop.get_or_insert(reason);
            is_first
        };
        // Sequentially consistent: a thread that shares the store sets `shared` before it reads
        // this flag. Either that thread sees the stop, or this thread sees that the store is shared
        // and records the stop in the page.
        self.stopped.store(true, Ordering::SeqCst);
        self.watch.end();
        is_first
    }

    /// Whether all writing has been stopped.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Whether a failed sync has stopped all writing.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.is_stopped() && matches!(*self.stop.lock(), Some(Error::Poisoned { .. }))
    }

    /// Return the reason as an error if the store has stopped writing.
    ///
    /// Each append calls this several times. Inlined, and with the error in a function of its own,
    /// these calls cost 130 of a commit's 11,500 instructions less.
    #[inline]
    pub(crate) fn health(&self) -> Result<()> {
        if self.is_stopped() {
            return Err(self.stop_reason());
        }
        Ok(())
    }

    #[cold]
    fn stop_reason(&self) -> Error {
        self.stop.lock().clone().unwrap_or(Error::Closed)
    }
}
