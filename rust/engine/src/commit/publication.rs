//! How far the log is written and durable, and what is visible in this session.
//!
//! A frame is first written, then durable, then indexed, then below the head. Readers see what is
//! below the head. An answer leaves only when `durable` has reached the address that the append was
//! validated against.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::follow::{EachFrame, follow};
use super::written::{Tail, WrittenFrame, WrittenLog};
use crate::coord::{LogPoint, SharedSession};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::live::LiveLog;
use crate::lock::{Mutex, MutexGuard};
use crate::log::{CutPoint, Segment};
use crate::options::ReadMode;

/// Maximum bytes of log that a non-blocking read catches up on.
const NON_BLOCKING_BYTES: u64 = 256 << 10;

/// The reason why a durable frame could not be indexed. The store has to be poisoned.
#[derive(Debug)]
#[must_use]
pub(super) struct Unindexed(pub(super) String);

/// The written end and the durable end of the log, as this session has read or written them.
#[derive(Debug)]
pub(super) struct Publication {
    log: Arc<LiveLog>,
    /// Also locked while frames become visible and while the session stops. Without that, a frame
    /// could become visible after the stop, although the poison marker cuts it off.
    known: Mutex<WrittenLog>,
    /// Everything below this address is durable and visible in this session. Stored with Release
    /// after the index and the head are updated: a thread that loads it with Acquire sees both.
    durable: AtomicU64,
    /// End of the last durable frame. After the move to a new segment `durable` is ahead of it, at
    /// an address that has no frame yet.
    durable_end: AtomicU64,
    /// The hash chain at `durable_end`. The two values are stored one after the other; only a
    /// thread that holds `known` can rely on both being of the same frame.
    durable_chain: AtomicU64,
    /// Sequence number of the durable record in the page up to which this session has caught up.
    /// Only spares the read of an unchanged record.
    seen_sequence: AtomicU64,
    /// Whether frames may be added to the index. Reset for good when a frame could not be indexed:
    /// the frames after a gap would get wrong versions and positions.
    is_indexing: AtomicBool,
}

impl Publication {
    /// Start at a tail below which everything is durable and indexed.
    pub(super) fn new(log: Arc<LiveLog>, tail: Tail, durable: LogPoint) -> Self {
        let known = WrittenLog {
            tail,
            end: durable.end,
            commit_time: durable.commit_time,
            ends_in_marker: durable.ends_in_marker,
            unsynced: VecDeque::new(),
        };
        Self {
            log,
            known: Mutex::new(known),
            durable: AtomicU64::new(durable.address),
            durable_end: AtomicU64::new(durable.end),
            durable_chain: AtomicU64::new(durable.chain),
            seen_sequence: AtomicU64::new(u64::MAX),
            is_indexing: AtomicBool::new(true),
        }
    }

    /// Everything below this address is durable and visible in this session.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Return the end of the last durable frame. A durable hint, the manifest and a poison marker
    /// must not name a later address: there may be no frame.
    pub(super) fn durable_end(&self) -> u64 {
        self.durable_end.load(Ordering::Acquire)
    }

    /// Return the tail after the last completed write that this session has read or made.
    pub(super) fn published(&self) -> Tail {
        self.known.lock().tail.clone()
    }

    /// Return the end of the log, as far as this session has read or written it.
    pub(super) fn end_point(&self) -> LogPoint {
        self.known.lock().end_point()
    }

    /// Record written frames for the next sync. The caller holds the write lock.
    pub(super) fn publish(
        &self,
        tail: &Tail,
        (end, commit_time, ends_in_marker): (u64, u64, bool),
        entries: impl IntoIterator<Item = WrittenFrame>,
    ) {
        self.log.segments.layout.vfs.at("publish");
        let mut known = self.known.lock();
        known.unsynced.extend(entries);
        known.tail = tail.clone();
        (known.end, known.commit_time, known.ends_in_marker) = (end, commit_time, ends_in_marker);
        if let Some(session) = self.log.coord.shared() {
            session.page.publish_tail(&known.end_point());
        }
    }

    /// Read all frames that other sessions have written. The caller holds the write lock, so no
    /// further frames appear meanwhile.
    pub(super) fn read_written(
        &self,
        session: &SharedSession,
        each: &mut EachFrame<'_>,
    ) -> Result<Tail> {
        let Some(tail) = session.page.tail() else {
            return Err(self
                .log
                .coord
                .detached("its record of the log's end is damaged"));
        };
        // A written end below the durable end means damage. Without this check the next write would
        // overwrite durable frames.
        if session
            .page
            .durable()
            .is_none_or(|durable| durable.address > tail.address)
        {
            return Err(self
                .log
                .coord
                .detached("it says that more is durable than was written"));
        }
        let mut known = self.known.lock();
        follow(&self.log, &mut known, &tail, each)?;
        Ok(known.tail.clone())
    }

    /// Make visible in this session what other sessions have made durable. This also applies after
    /// a failed sync: what the page records was durable before, and may have been acknowledged.
    pub(super) fn catch_up(
        &self,
        session: &SharedSession,
        mode: ReadMode,
    ) -> Result<std::result::Result<(), Unindexed>> {
        let (turn, address) = session.page.durable_unchecked();
        // Compare the address too: if a program has changed the sequence number, later increments
        // could bring it back to the old value.
        if turn == self.seen_sequence.load(Ordering::Acquire) && address <= self.durable() {
            return Ok(Ok(()));
        }
        let Some(durable) = session.page.durable() else {
            return Err(self
                .log
                .coord
                .detached("its record of what is durable is damaged"));
        };
        if durable.address <= self.durable() {
            self.seen_sequence.store(turn, Ordering::Release);
            return Ok(Ok(()));
        }
        let mut known = self.lock_written(mode)?;
        if known.tail.address < durable.address {
            // If the segment is not open in this session, its file has to be opened first, and the
            // maintenance lock may have to be waited for.
            let is_long = durable.address - known.tail.address > NON_BLOCKING_BYTES
                || self.log.segments.of_ordinal(durable.ordinal).is_none();
            if mode == ReadMode::NonBlocking && is_long {
                return Err(Error::WouldBlock);
            }
            follow(&self.log, &mut known, &durable, &mut |_, _| ())?;
        }
        if self.is_indexing.load(Ordering::SeqCst) && !self.agrees(&known, &durable) {
            return Err(self
                .log
                .coord
                .detached("it says that another frame is durable than was written there"));
        }
        let indexed = self.index(known, durable.address);
        self.seen_sequence.store(turn, Ordering::Release);
        Ok(indexed.map(|head| self.show(head, durable.address)))
    }

    /// Whether a durable end from the page matches the frames of this session. It may also be older
    /// than the durable end that another thread has stored meanwhile.
    fn agrees(&self, known: &WrittenLog, durable: &LogPoint) -> bool {
        match durable.end.cmp(&self.durable_end()) {
            Less => return true,
            Equal => return durable.chain == self.durable_chain.load(Ordering::Acquire),
            Greater => {}
        }
        let written = &known.unsynced;
        let found = written.binary_search_by_key(&durable.end, |w| w.entry.end());
        let found = found.ok().and_then(|i| written.get(i));
        found.is_some_and(|written| written.chain == durable.chain)
    }

    fn lock_written(&self, mode: ReadMode) -> Result<MutexGuard<'_, WrittenLog>> {
        match mode {
            ReadMode::Blocking => Ok(self.known.lock()),
            ReadMode::NonBlocking => self.known.try_lock().ok_or(Error::WouldBlock),
        }
    }

    /// Make visible what this session has synced, unless the store has stopped meanwhile. The
    /// poison marker then records an earlier durable end. Frames after it will be cut off by
    /// recovery, so no reader and no caller may see them.
    pub(super) fn make_synced_visible(&self, address: u64) -> std::result::Result<(), Unindexed> {
        let known = self.known.lock();
        if self.log.is_stopped() {
            return Ok(());
        }
        self.index(known, address)
            .map(|head| self.show(head, address))
    }

    /// Move the head before any caller gets its answer. The frames are in the index already.
    fn show(&self, head: Option<u64>, address: u64) {
        let Some(head) = head else {
            return;
        };
        let vfs = &self.log.segments.layout.vfs;
        vfs.at("indexed");
        self.log.watch.publish(head);
        vfs.at("shown");
        self.durable.fetch_max(address, Ordering::AcqRel);
    }

    /// Whether the frames between two points form one chain.
    pub(super) fn is_continuous(&self, durable: &LogPoint, tail: &LogPoint) -> Result<bool> {
        let segment = self.segment_of(durable)?;
        let mut known = WrittenLog {
            tail: Tail {
                segment,
                address: durable.address,
                next_position: durable.next_position,
                chain: durable.chain,
            },
            end: durable.end,
            commit_time: durable.commit_time,
            ends_in_marker: durable.ends_in_marker,
            unsynced: VecDeque::new(),
        };
        match follow(&self.log, &mut known, tail, &mut |_, _| ()) {
            Ok(()) => Ok(true),
            Err(Error::Detached { .. }) => Ok(false),
            // This is not damage of the log: for example, too many files are open, or the disk
            // can't be read.
            Err(e) => Err(e),
        }
    }

    pub(super) fn segment_of(&self, point: &LogPoint) -> Result<Arc<Segment>> {
        match self.log.segments.of_ordinal(point.ordinal) {
            Some(segment) => Ok(segment),
            None => self.log.segments.refresh(point.ordinal),
        }
    }

    /// Add the frames below `address` to the index and return the head, or `None` if the index has
    /// a gap. A frame that can't be indexed is durable, but no frame after it may be indexed.
    fn index(
        &self,
        mut known: MutexGuard<'_, WrittenLog>,
        address: u64,
    ) -> std::result::Result<Option<u64>, Unindexed> {
        if !self.is_indexing.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let mut index = self.log.index.write();
        while let Some(written) = known.unsynced.pop_front_if(|w| w.entry.end() <= address) {
            let entry = &written.entry;
            if let Err(unfit) = index.apply(entry) {
                let place = entry.address;
                self.stop_indexing();
                return Err(Unindexed(format!(
                    "could not index the frame at address {place}: {unfit}"
                )));
            }
            self.durable_chain.store(written.chain, Ordering::Release);
            self.durable_end.store(entry.end(), Ordering::Release);
        }
        Ok(Some(index.head()))
    }

    /// Add nothing more to the index, because it may have a gap.
    pub(super) fn stop_indexing(&self) {
        self.is_indexing.store(false, Ordering::SeqCst);
    }

    /// Stop all writing of this session and return how far the log is durable; nothing becomes
    /// durable afterwards. Return `None` if it had stopped before.
    pub(super) fn stop(&self, reason: Error) -> Option<CutPoint> {
        // Locked so that no frame becomes visible between the stop and the read of the durable end.
        let _known = self.known.lock();
        self.log.stop(reason).then(|| CutPoint {
            address: self.durable_end(),
            chain: self.durable_chain.load(Ordering::Acquire),
        })
    }
}
