//! How far the log is written and durable, and what of it is visible in this session.
//!
//! A frame is first written, then durable, then in the index, then below the head. Readers see
//! what is below the head, and an answer leaves only when `durable` has reached the end that it
//! was judged against.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::follow::{EachFrame, follow};
use super::written::{Known, Tail, Written};
use crate::coord::{LogPoint, SharedSession};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::live::LiveLog;
use crate::lock::{Mutex, MutexGuard};
use crate::log::{Seal, Segment};
use crate::options::ReadMode;

/// Maximum bytes of log that a non-blocking read catches up on.
const NON_BLOCKING_BYTES: u64 = 256 << 10;

/// A durable frame that the index can't take, in words. The session has to be poisoned.
#[derive(Debug)]
#[must_use]
pub(super) struct Unindexed(pub(super) String);

/// The written and the durable end of the log, as this session knows them.
#[derive(Debug)]
pub(super) struct Publication {
    log: Arc<LiveLog>,
    /// Also held while frames become visible and while the session stops: so nothing becomes
    /// visible after a stop.
    known: Mutex<Known>,
    /// Everything below is durable, and visible in this session. Stored after the index and the
    /// head, so that a thread that sees it sees both.
    durable: AtomicU64,
    /// End of the last durable frame. After a roll `durable` may be ahead of it, at an address
    /// where there is no frame yet.
    durable_end: AtomicU64,
    /// The chain there. The two belong to one frame for the holder of `known`.
    durable_chain: AtomicU64,
    /// The turn of the page's record that this session has caught up with.
    seen_turn: AtomicU64,
    /// Whether the index has all frames up to its end, so that more can follow.
    follows: AtomicBool,
}

impl Publication {
    /// Begins at a tail all below which is durable and in the index.
    pub(super) fn new(log: Arc<LiveLog>, tail: Tail, durable: LogPoint) -> Self {
        let known = Known {
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
            seen_turn: AtomicU64::new(u64::MAX),
            follows: AtomicBool::new(true),
        }
    }

    /// Everything below is durable, and visible in this session.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The end of the last durable frame: what evidence of durability may claim.
    pub(super) fn durable_end(&self) -> u64 {
        self.durable_end.load(Ordering::Acquire)
    }

    /// The tail as of the last completed write that this session knows of.
    pub(super) fn published(&self) -> Tail {
        self.known.lock().tail.clone()
    }

    /// Where the log ends, as far as this session knows.
    pub(super) fn end_point(&self) -> LogPoint {
        self.known.lock().end_point()
    }

    /// Records written frames, for the next sync. The caller holds the write lock.
    pub(super) fn publish(
        &self,
        tail: &Tail,
        (end, commit_time, ends_in_marker): (u64, u64, bool),
        entries: impl IntoIterator<Item = Written>,
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

    /// Reads all that other sessions have written. The caller holds the write lock, so that no
    /// session writes more.
    pub(super) fn learn(&self, session: &SharedSession, each: &mut EachFrame<'_>) -> Result<Tail> {
        let Some(tail) = session.page.tail() else {
            return Err(self
                .log
                .coord
                .detached("its record of the log's end is damaged"));
        };
        // The end is never below what is durable: what is between would be written over.
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

    /// Makes visible in this session what others have made durable, also after a failed sync:
    /// what the page records by then was durable before, and may have been acknowledged.
    pub(super) fn catch_up(
        &self,
        session: &SharedSession,
        mode: ReadMode,
    ) -> Result<std::result::Result<(), Unindexed>> {
        let (turn, address) = session.page.durable_in_short();
        // The address is compared, too: a turn that was changed may be counted up to its old value.
        if turn == self.seen_turn.load(Ordering::Acquire) && address <= self.durable() {
            return Ok(Ok(()));
        }
        let Some(durable) = session.page.durable() else {
            return Err(self
                .log
                .coord
                .detached("its record of what is durable is damaged"));
        };
        if durable.address <= self.durable() {
            self.seen_turn.store(turn, Ordering::Release);
            return Ok(Ok(()));
        }
        let mut known = self.known_for(mode)?;
        if known.tail.address < durable.address {
            // Before a segment that isn't open here is read, its file has to be opened, and perhaps
            // a session waited for that creates files.
            let is_long = durable.address - known.tail.address > NON_BLOCKING_BYTES
                || self.log.segments.of_ordinal(durable.ordinal).is_none();
            if mode == ReadMode::NonBlocking && is_long {
                return Err(Error::WouldBlock);
            }
            follow(&self.log, &mut known, &durable, &mut |_, _| ())?;
        }
        if self.follows.load(Ordering::SeqCst) && !self.agrees(&known, &durable) {
            return Err(self
                .log
                .coord
                .detached("it says that another frame is durable than was written there"));
        }
        let indexed = self.index(known, durable.address);
        self.seen_turn.store(turn, Ordering::Release);
        Ok(indexed.map(|head| self.show(head, durable.address)))
    }

    /// Whether a durable end is that of a frame which this session knows, or one before what
    /// another thread has found to be durable meanwhile.
    fn agrees(&self, known: &Known, durable: &LogPoint) -> bool {
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

    fn known_for(&self, mode: ReadMode) -> Result<MutexGuard<'_, Known>> {
        match mode {
            ReadMode::Blocking => Ok(self.known.lock()),
            ReadMode::NonBlocking => self.known.try_lock().ok_or(Error::WouldBlock),
        }
    }

    /// Makes what this session has synced visible, unless the store has stopped by now: the
    /// marker of a poisoned store has recorded how far the log is durable. What became durable
    /// later will be cut off, so no reader and no caller may see it.
    pub(super) fn show_synced(&self, address: u64) -> std::result::Result<(), Unindexed> {
        let known = self.known.lock();
        if self.log.is_stopped() {
            return Ok(());
        }
        self.index(known, address)
            .map(|head| self.show(head, address))
    }

    /// Moves the head, before any caller gets its answer. The index has the commits already.
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

    /// Whether the log from one point to the other is what its frames say.
    pub(super) fn is_whole(&self, durable: &LogPoint, tail: &LogPoint) -> Result<bool> {
        let segment = self.segment_of(durable)?;
        let mut known = Known {
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
            // Not a fault of the log: too many files are open, or the disk can't be read.
            Err(e) => Err(e),
        }
    }

    pub(super) fn segment_of(&self, point: &LogPoint) -> Result<Arc<Segment>> {
        match self.log.segments.of_ordinal(point.ordinal) {
            Some(segment) => Ok(segment),
            None => self.log.segments.refresh(point.ordinal),
        }
    }

    /// Adds the frames below an address to the index and returns the head; `None` once the
    /// index has a gap. A frame that the index can't take is durable all the same, but nothing
    /// may be built on it.
    fn index(
        &self,
        mut known: MutexGuard<'_, Known>,
        address: u64,
    ) -> std::result::Result<Option<u64>, Unindexed> {
        if !self.follows.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let mut index = self.log.index.write();
        while let Some(written) = known.unsynced.pop_front_if(|w| w.entry.end() <= address) {
            let entry = &written.entry;
            if let Err(unfit) = index.apply(entry) {
                let place = entry.address;
                self.follow_no_more();
                return Err(Unindexed(format!(
                    "could not index the frame at address {place}: {unfit}"
                )));
            }
            self.durable_chain.store(written.chain, Ordering::Release);
            self.durable_end.store(entry.end(), Ordering::Release);
        }
        Ok(Some(index.head()))
    }

    /// Adds nothing more to the index, because it may have a gap.
    pub(super) fn follow_no_more(&self) {
        self.follows.store(false, Ordering::SeqCst);
    }

    /// Stops all writing of this session; `None` if something had stopped it before. Otherwise
    /// returns how far the log is durable: nothing becomes durable after that.
    pub(super) fn stop(&self, reason: Error) -> Option<Seal> {
        // Held so that no frame is shown as durable between the stop and the look at the end.
        let _known = self.known.lock();
        self.log.stop(reason).then(|| Seal {
            address: self.durable_end(),
            chain: self.durable_chain.load(Ordering::Acquire),
        })
    }
}
