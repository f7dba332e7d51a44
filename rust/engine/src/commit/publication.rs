//! How far the log is written and durable, and which frames are visible in this session.
//!
//! A frame is first written, then durable, then indexed, then visible. Readers see only events up
//! to the head, so a frame becomes visible when the head moves past it. An answer is sent only when
//! `durable` has reached the address that the append was validated against.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::follow::{EachFrame, follow};
use super::written_log::{Tail, WrittenFrame, WrittenLog};
use crate::coord::{LogPoint, SharedSession};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::live::LiveLog;
use crate::log::{CutPoint, Segment};
use crate::mutex::{Mutex, MutexGuard};
use crate::options::ReadMode;

/// Maximum number of bytes of other sessions' frames that a non-blocking call reads to catch up.
const NON_BLOCKING_BYTES: u64 = 256 << 10;

/// The reason why a durable frame could not be indexed. The caller has to poison the store.
#[derive(Debug)]
#[must_use]
pub(super) struct Unindexed(pub(super) String);

/// The written end and the durable end of the log, as far as this session has read or written it.
#[derive(Debug)]
pub(super) struct Publication {
    log: Arc<LiveLog>,
    /// The written log. Its lock is also held while frames become visible and while the session
    /// stops. Otherwise a frame could become visible after the stop, although the poison marker
    /// cuts that frame off.
    written: Mutex<WrittenLog>,
    /// Everything below this address is durable and visible in this session. Stored with Release
    /// after the index and the head are updated: a thread that loads the address with Acquire sees
    /// both updates.
    durable: AtomicU64,
    /// End of the last durable frame. After a rollover, `durable` is a later address: the start of
    /// the new segment, which has no frame yet.
    durable_end: AtomicU64,
    /// The hash chain at `durable_end`. The two values are stored one after the other, so only a
    /// thread that has locked `written` can rely on both values belonging to the same frame.
    durable_chain: AtomicU64,
    /// Sequence number of the page's durable record that this session read last. Used only to avoid
    /// reading a record that has not changed.
    seen_sequence: AtomicU64,
    /// Whether frames may be added to the index. Reset for good when a frame could not be indexed,
    /// because the frames after a gap would get wrong versions and positions.
    is_indexing: AtomicBool,
}

impl Publication {
    /// Build the publication of a log in which everything below `tail` is durable and indexed.
    pub(super) fn new(log: Arc<LiveLog>, tail: Tail, durable: LogPoint) -> Self {
        let written = WrittenLog {
            tail,
            end: durable.end,
            commit_time: durable.commit_time,
            ends_in_marker: durable.ends_in_marker,
            unsynced: VecDeque::new(),
        };
        Self {
            log,
            written: Mutex::new(written),
            durable: AtomicU64::new(durable.address),
            durable_end: AtomicU64::new(durable.end),
            durable_chain: AtomicU64::new(durable.chain),
            seen_sequence: AtomicU64::new(u64::MAX),
            is_indexing: AtomicBool::new(true),
        }
    }

    /// Return the address below which everything is durable and visible in this session.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Return the end of the last durable frame. A durable hint, the manifest and a poison marker
    /// must not name a later address, because no frame ends at such an address.
    pub(super) fn durable_end(&self) -> u64 {
        self.durable_end.load(Ordering::Acquire)
    }

    /// Return the tail after the last complete write that this session has read or made.
    pub(super) fn published(&self) -> Tail {
        self.written.lock().tail.clone()
    }

    /// Return the end of the log, as far as this session has read or written it.
    pub(super) fn end_point(&self) -> LogPoint {
        self.written.lock().end_point()
    }

    /// Record written frames for the next sync, and publish the new tail to other sessions. The
    /// caller holds the write lock.
    pub(super) fn publish(
        &self,
        tail: &Tail,
        (end, commit_time, ends_in_marker): (u64, u64, bool),
        entries: impl IntoIterator<Item = WrittenFrame>,
    ) {
        self.log.segments.layout.vfs.at("publish");
        let mut written = self.written.lock();
        // A loop in place of `extend`, which is compiled to a call and moves each frame once more:
        // 60 of a commit's 11,500 instructions.
        for entry in entries {
            written.unsynced.push_back(entry);
        }
        written.tail = tail.clone();
        (written.end, written.commit_time, written.ends_in_marker) =
            (end, commit_time, ends_in_marker);
        if let Some(session) = self.log.coord.shared() {
            session.page.publish_tail(&written.end_point());
        }
    }

    /// Read all frames that other sessions have written, and return the tail after them. The caller
    /// holds the write lock, so no session writes further frames during the read.
    pub(super) fn read_written(
        &self,
        session: &SharedSession,
        each: &mut EachFrame<'_>,
    ) -> Result<Tail> {
        let Some(tail) = session.page.tail() else {
            return Err(self
                .log
                .coord
                .detached("its record of the written end is damaged"));
        };
        // A written end below the durable end means that the page is damaged. Without this check
        // the next write would overwrite durable frames.
        if session
            .page
            .durable()
            .is_none_or(|durable| durable.address > tail.address)
        {
            return Err(self
                .log
                .coord
                .detached("its durable end is beyond its written end"));
        }
        let mut written = self.written.lock();
        follow(&self.log, &mut written, &tail, each)?;
        Ok(written.tail.clone())
    }

    /// Make visible in this session the frames that other sessions have made durable. Do this even
    /// if this session has stopped after a failed sync: the frames below the recorded durable end
    /// were durable before the failure, and may have been acknowledged.
    pub(super) fn catch_up(
        &self,
        session: &SharedSession,
        mode: ReadMode,
    ) -> Result<std::result::Result<(), Unindexed>> {
        let (sequence, address) = session.page.durable_unchecked();
        // Compare the address too: if another program has changed the sequence number in the page,
        // later increments could bring the number back to the old value.
        if sequence == self.seen_sequence.load(Ordering::Acquire) && address <= self.durable() {
            return Ok(Ok(()));
        }
        let Some(durable) = session.page.durable() else {
            return Err(self
                .log
                .coord
                .detached("its record of the durable end is damaged"));
        };
        if durable.address <= self.durable() {
            self.seen_sequence.store(sequence, Ordering::Release);
            return Ok(Ok(()));
        }
        let mut written = self.lock_written(mode)?;
        if written.tail.address < durable.address {
            // If this session has not opened the segment, it has to open the file first, and may
            // have to wait for the maintenance lock.
            let is_long = durable.address - written.tail.address > NON_BLOCKING_BYTES
                || self.log.segments.of_ordinal(durable.ordinal).is_none();
            if mode == ReadMode::NonBlocking && is_long {
                return Err(Error::WouldBlock);
            }
            follow(&self.log, &mut written, &durable, &mut |_, _| ())?;
        }
        if self.is_indexing.load(Ordering::SeqCst) && !self.agrees(&written, &durable) {
            return Err(self
                .log
                .coord
                .detached("its durable end does not match the frame that was written there"));
        }
        let indexed = self.index(written, durable.address);
        self.seen_sequence.store(sequence, Ordering::Release);
        Ok(indexed.map(|head| self.make_visible(head, durable.address)))
    }

    /// Whether a durable end that was read from the page matches the frames that this session has
    /// read. An end below the durable end of this session matches too: another thread of this
    /// session may have caught up further since the page was read.
    fn agrees(&self, written: &WrittenLog, durable: &LogPoint) -> bool {
        match durable.end.cmp(&self.durable_end()) {
            Less => return true,
            Equal => return durable.chain == self.durable_chain.load(Ordering::Acquire),
            Greater => {}
        }
        let frames = &written.unsynced;
        let last = frames.binary_search_by_key(&durable.end, |frame| frame.entry.end());
        let last = last.ok().and_then(|i| frames.get(i));
        last.is_some_and(|frame| frame.chain == durable.chain)
    }

    fn lock_written(&self, mode: ReadMode) -> Result<MutexGuard<'_, WrittenLog>> {
        match mode {
            ReadMode::Blocking => Ok(self.written.lock()),
            ReadMode::NonBlocking => self.written.try_lock().ok_or(Error::WouldBlock),
        }
    }

    /// Make visible the frames below `address`, which this session has synced. Do nothing if the
    /// session has stopped since the sync began: the poison marker then records an earlier durable
    /// end, and recovery will cut off the frames after that end. Neither a reader nor a caller may
    /// see them.
    pub(super) fn make_synced_visible(&self, address: u64) -> std::result::Result<(), Unindexed> {
        let written = self.written.lock();
        if self.log.is_stopped() {
            return Ok(());
        }
        self.index(written, address)
            .map(|head| self.make_visible(head, address))
    }

    /// Move the head past frames that are already in the index, then advance `durable`. Because of
    /// this order, a caller that gets its answer can read the events that it has appended.
    fn make_visible(&self, head: Option<u64>, address: u64) {
        let Some(head) = head else {
            return;
        };
        let vfs = &self.log.segments.layout.vfs;
        vfs.at("indexed");
        self.log.watch.publish(head);
        vfs.at("visible");
        self.durable.fetch_max(address, Ordering::AcqRel);
    }

    /// Whether the frames between two points form one chain.
    pub(super) fn is_continuous(&self, durable: &LogPoint, tail: &LogPoint) -> Result<bool> {
        let segment = self.segment_of(durable)?;
        let mut written = WrittenLog {
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
        match follow(&self.log, &mut written, tail, &mut |_, _| ()) {
            Ok(()) => Ok(true),
            Err(Error::Detached { .. }) => Ok(false),
            // Any other error does not prove that the log is damaged. The cause may be, for example,
            // too many open files or an unreadable disk.
            Err(e) => Err(e),
        }
    }

    pub(super) fn segment_of(&self, point: &LogPoint) -> Result<Arc<Segment>> {
        match self.log.segments.of_ordinal(point.ordinal) {
            Some(segment) => Ok(segment),
            None => self.log.segments.refresh(point.ordinal),
        }
    }

    /// Add the frames below `address` to the index and return the head. Return `None` if the index
    /// has a gap already. If a frame can't be indexed, return an error, and index no later
    /// frame. The frame itself is durable.
    fn index(
        &self,
        mut written: MutexGuard<'_, WrittenLog>,
        address: u64,
    ) -> std::result::Result<Option<u64>, Unindexed> {
        if !self.is_indexing.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let mut index = self.log.index.write();
        while let Some(frame) = written.unsynced.pop_front_if(|w| w.entry.end() <= address) {
            let entry = &frame.entry;
            if let Err(unfit) = index.apply(entry) {
                let address = entry.address;
                self.stop_indexing();
                return Err(Unindexed(format!(
                    "could not index the frame at address {address}: {unfit}"
                )));
            }
            self.durable_chain.store(frame.chain, Ordering::Release);
            self.durable_end.store(entry.end(), Ordering::Release);
        }
        Ok(Some(index.head()))
    }

    /// Prevent further additions to the index, because the index may have a gap.
    pub(super) fn stop_indexing(&self) {
        self.is_indexing.store(false, Ordering::SeqCst);
    }

    /// Stop all writing of this session and return the durable end of the log. This session makes
    /// nothing durable afterwards. Return `None` if the session had stopped before.
    pub(super) fn stop(&self, reason: Error) -> Option<CutPoint> {
        // While this lock is held, no frame becomes visible. So none becomes visible between the stop
        // and the read of the durable end.
        let _written = self.written.lock();
        self.log.stop(reason).then(|| CutPoint {
            address: self.durable_end(),
            chain: self.durable_chain.load(Ordering::Acquire),
        })
    }
}
