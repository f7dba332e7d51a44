//! The sync phase: one caller syncs for all, then the commits become visible.
//!
//! Between processes the same: who gets the sync lock syncs for all of them, and the others
//! wait for the bell.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::lock::{Condvar, Mutex, MutexGuard};

use super::catch_up::EachFrame;
use super::{Known, Tail, Written, is_refusal};
use crate::coord::{Coord, Joint, LockGuard, Mark, RECHECK};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::live::LiveLog;
use crate::log::{Marker, Seal, Segment};
use crate::options::ReadMode;
use crate::vfs::{read_full, write_all_at};

/// How many bytes of log a read on an event loop may catch up on.
const INLINE: u64 = 256 << 10;

/// Between written and durable.
#[derive(Debug)]
pub(super) struct Syncer {
    pub(super) log: Arc<LiveLog>,
    known: Mutex<Known>,
    durable: AtomicU64,
    /// End of the last durable frame. After a roll `durable` may be ahead of it, at a place
    /// where no frame stands yet.
    durable_end: AtomicU64,
    /// The chain there. The two are of one frame for whoever holds `known`.
    durable_chain: AtomicU64,
    /// The turn of the page's record that this process has caught up with.
    seen_turn: AtomicU64,
    syncing: Mutex<bool>,
    synced: Condvar,
    /// Whether the index has all frames up to where it ends, so that more can follow.
    follows: AtomicBool,
    /// Held while the marker of a poisoned store is written; true once none may be.
    marking: Mutex<bool>,
}

impl Syncer {
    /// Begins at a tail all below which is durable and in the index.
    pub(super) fn new(log: Arc<LiveLog>, tail: Tail, durable: Mark) -> Self {
        let known = Known {
            tail,
            end: durable.end,
            commit_time: durable.commit_time,
            is_marked: durable.is_marked,
            unsynced: VecDeque::new(),
        };
        Self {
            log,
            durable: AtomicU64::new(durable.address),
            durable_end: AtomicU64::new(durable.end),
            durable_chain: AtomicU64::new(durable.chain),
            known: Mutex::new(known),
            seen_turn: AtomicU64::new(u64::MAX),
            follows: AtomicBool::new(true),
            syncing: Mutex::new(false),
            synced: Condvar::new(),
            marking: Mutex::new(false),
        }
    }

    fn coord(&self) -> &Coord {
        &self.log.coord
    }

    /// Everything below is durable, and visible in this process.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The end of the last durable frame: what evidence of durability may claim.
    pub(super) fn durable_end(&self) -> u64 {
        self.durable_end.load(Ordering::Acquire)
    }

    /// The tail as of the last completed write that this process knows of.
    pub(super) fn published(&self) -> Tail {
        self.known.lock().tail.clone()
    }

    /// Where the log ends, as far as this process knows.
    pub(super) fn mark(&self) -> Mark {
        self.known.lock().mark()
    }

    /// Announces written frames to whoever syncs next. The caller holds the write lock.
    pub(super) fn publish(
        &self,
        tail: &Tail,
        (end, commit_time, is_marked): (u64, u64, bool),
        entries: impl IntoIterator<Item = Written>,
    ) {
        self.log.segments.layout.vfs.at("publish");
        let mut known = self.known.lock();
        known.unsynced.extend(entries);
        known.tail = tail.clone();
        (known.end, known.commit_time, known.is_marked) = (end, commit_time, is_marked);
        if let Some(joint) = self.coord().shared() {
            joint.page.publish_tail(&known.mark());
        }
    }

    /// Learns of all that other processes have written. The caller holds the write lock, so
    /// nobody writes more.
    pub(super) fn learn(&self, joint: &Joint, each: &mut EachFrame<'_>) -> Result<Tail> {
        let Some(tail) = joint.page.tail() else {
            return Err(self
                .coord()
                .detached("its record of the log's end is damaged"));
        };
        // The end never comes before what is durable: what stands between would be written over.
        if joint
            .page
            .durable()
            .is_none_or(|durable| durable.address > tail.address)
        {
            return Err(self
                .coord()
                .detached("it says that more is durable than was written"));
        }
        let mut known = self.known.lock();
        self.follow(&mut known, &tail, each)?;
        Ok(known.tail.clone())
    }

    /// Shows in this process what others have made durable, also after a failed sync: what
    /// the page says by then was durable before, and may have been acknowledged.
    pub(super) fn catch_up(&self, joint: &Joint, mode: ReadMode) -> Result<()> {
        let (turn, address) = joint.page.durable_in_short();
        // The address too: a number that was changed may be counted on to what it was.
        if turn == self.seen_turn.load(Ordering::Acquire) && address <= self.durable() {
            return Ok(());
        }
        let Some(durable) = joint.page.durable() else {
            return Err(self
                .coord()
                .detached("its record of what is durable is damaged"));
        };
        if durable.address <= self.durable() {
            self.seen_turn.store(turn, Ordering::Release);
            return Ok(());
        }
        let mut known = self.known_for(mode)?;
        if known.tail.address < durable.address {
            // Of a segment that isn't open here the files have to be read, and perhaps one that
            // makes files waited for.
            let is_long = durable.address - known.tail.address > INLINE
                || self.log.segments.of_ordinal(durable.ordinal).is_none();
            if mode == ReadMode::NonBlocking && is_long {
                return Err(Error::WouldBlock);
            }
            self.follow(&mut known, &durable, &mut |_, _| ())?;
        }
        if self.follows.load(Ordering::SeqCst) && !self.agrees(&known, &durable) {
            return Err(self
                .coord()
                .detached("it says that another frame is durable than was written there"));
        }
        if let Some(head) = self.index(known, durable.address) {
            self.show(head, durable.address);
        }
        self.seen_turn.store(turn, Ordering::Release);
        Ok(())
    }

    /// Whether a durable end is that of a frame which this process knows, or one before what
    /// another thread has found to be durable meanwhile.
    fn agrees(&self, known: &Known, durable: &Mark) -> bool {
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

    /// Returns once everything below `target` is durable. The caller may hold the write
    /// lock; those who wait for the head are woken by whoever delivers next.
    pub(super) fn until(&self, target: u64) -> Result<()> {
        let mut deadline = None;
        while self.durable() < target {
            let mut outcome = Ok(());
            self.lead_unless(
                || self.durable() >= target,
                || outcome = self.sync(&mut deadline),
            )?;
            outcome?;
        }
        Ok(())
    }

    /// Syncs a segment, alone: the kernel tells of a failed write once, and whoever hears of
    /// it must be the one who stops everybody.
    pub(super) fn alone(&self, segment: &Segment) -> Result<()> {
        let mut outcome = Ok(());
        self.lead_unless(|| false, || outcome = self.sync_alone(segment))?;
        outcome
    }

    fn sync_alone(&self, segment: &Segment) -> Result<()> {
        let Some(joint) = self.coord().shared() else {
            self.sync_segment(segment);
            return Ok(());
        };
        let Some(held) = joint.locks.sync.hold_by(self.coord().deadline())? else {
            return Err(self
                .coord()
                .stalled("the sync of the log", joint.page.syncer()));
        };
        joint.page.set_syncer(joint.entry.number());
        let finished = self.finish_sync(joint);
        if matches!(finished, Ok(true)) {
            self.sync_busily(joint, segment);
        }
        self.hand_over(joint, held);
        finished.map(|_| ())
    }

    /// Makes up for a process that died in a sync; `false` if the store is poisoned by that.
    /// The caller holds the sync lock.
    fn finish_sync(&self, joint: &Joint) -> Result<bool> {
        if !joint.page.is_sync_busy() {
            return Ok(true);
        }
        let (tail, durable) = self.marks(joint)?;
        let segment = self.active_segment_of(&tail)?;
        if durable.address >= tail.address {
            return Ok(true);
        }
        let is_whole = self.is_whole(&durable, &tail)?;
        self.write_again(&segment, &durable, &tail, is_whole)
    }

    /// Where the log ends, and how far it is durable. The caller holds the sync lock.
    fn marks(&self, joint: &Joint) -> Result<(Mark, Mark)> {
        // Read before the page is: its record of the end goes on with what is known here.
        let written = self.published().address;
        let marks = joint.page.tail().zip(joint.page.durable());
        let whole = marks.filter(|(tail, _)| tail.address >= written);
        let lost = || self.coord().detached("a record in it is damaged");
        self.stopping(whole.ok_or_else(lost))
    }

    fn segment_of(&self, mark: &Mark) -> Result<Arc<Segment>> {
        match self.log.segments.of_ordinal(mark.ordinal) {
            Some(segment) => Ok(segment),
            None => self.log.segments.refresh(mark.ordinal),
        }
    }

    /// The segment of a mark, open to be written to and synced.
    fn active_segment_of(&self, mark: &Mark) -> Result<Arc<Segment>> {
        let segment = self.segment_of(mark)?;
        segment.activate()?;
        Ok(segment)
    }

    /// Leads, unless `settled` by the time that the lead is free, or waits for who leads.
    pub(super) fn lead_unless(
        &self,
        settled: impl Fn() -> bool,
        lead: impl FnOnce(),
    ) -> Result<()> {
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
            self.follow_no_more();
            self.poison("the syncing thread panicked".to_owned());
        }
        *self.syncing.lock() = false;
        self.synced.notify_all();
        self.log.health()
    }

    /// One attempt to make more durable. `deadline` is by when another process must have done
    /// what it holds the sync lock for; it begins with the first wait.
    fn sync(&self, deadline: &mut Option<Instant>) -> Result<()> {
        match self.coord().shared() {
            None => self.sync_for_threads(),
            Some(joint) => return self.sync_for_processes(joint, deadline),
        }
        Ok(())
    }

    pub(super) fn sync_for_threads(&self) {
        let tail = self.published();
        if tail.address <= self.durable() || !self.sync_segment(&tail.segment) {
            return;
        }
        self.log.counters.fsyncs.add(1);
        self.log.segments.layout.vfs.at("durable");
        self.index_and_show(tail.address);
    }

    fn index_and_show(&self, address: u64) {
        if let Some(head) = self.index_known(self.known.lock(), address) {
            self.show(head, address);
        }
    }

    /// The index knows the commits, and the head shows them, before anyone is answered.
    fn show(&self, head: u64, address: u64) {
        let vfs = &self.log.segments.layout.vfs;
        vfs.at("indexed");
        self.log.watch.publish(head);
        vfs.at("shown");
        self.durable.fetch_max(address, Ordering::AcqRel);
    }

    fn sync_for_processes(&self, joint: &Joint, deadline: &mut Option<Instant>) -> Result<()> {
        let rings = joint.page.rings();
        let before = self.durable();
        self.catch_up_or_stop(joint)?;
        if self.durable() > before {
            return Ok(());
        }
        if let Some(held) = self.stopping(joint.locks.sync.try_hold())? {
            joint.page.set_syncer(joint.entry.number());
            let led = self.lead_processes(joint);
            self.hand_over(joint, held);
            led?;
        } else {
            let by = *deadline.get_or_insert_with(|| self.coord().deadline());
            if Instant::now() >= by {
                let syncer = joint.page.syncer();
                return Err(self.coord().stalled("the sync of the log", syncer));
            }
            self.log.counters.waits.add(1);
            // Who has the lock may die with it, and ring no bell.
            joint.page.wait_for_ring(rings, RECHECK);
        }
        self.catch_up_or_stop(joint)
    }

    /// Gives the sync lock back, and only then calls those who wait: whoever wants to lead next
    /// finds it free.
    fn hand_over(&self, joint: &Joint, held: LockGuard) {
        drop(held);
        joint.page.ring();
        self.log.segments.layout.vfs.at("rung");
    }

    /// Syncs what all processes have written. The caller holds the sync lock, and rings.
    fn lead_processes(&self, joint: &Joint) -> Result<()> {
        let page = &joint.page;
        self.stopping(self.coord().check_page(joint))?;
        if page.is_poisoned() {
            self.stop(Error::Poisoned {
                reason: "another process of the store failed to sync".to_owned(),
            });
            return Ok(());
        }
        let (tail, durable) = self.marks(joint)?;
        if durable.address >= tail.address {
            return Ok(());
        }
        let segment = self.active_segment_of(&tail)?;
        if !self.finish_sync(joint)? || !self.sync_busily(joint, &segment) {
            return Ok(());
        }
        self.log.counters.fsyncs.add(1);
        self.log.segments.layout.vfs.at("durable");
        page.publish_durable(&tail);
        self.log.segments.layout.vfs.at("told");
        joint.entry.publish(self.log.counters.read());
        Ok(())
    }

    /// Syncs under the sync lock; whoever finds the lock free and the sync unfinished knows
    /// that its report may be lost.
    fn sync_busily(&self, joint: &Joint, segment: &Segment) -> bool {
        joint.page.set_sync_busy(true);
        let is_durable = self.sync_segment(segment);
        if is_durable {
            joint.page.set_sync_busy(false);
        }
        is_durable
    }

    /// Writes what is not known to be durable once more, with the same bytes: the process that
    /// died in a sync may have taken the one report of a failed write with it, and a clean
    /// page is not written by the next sync.
    ///
    /// What is written again is what the chain says: `is_whole` says whether all is there, or a
    /// page has lost its bytes.
    ///
    /// To this process alone that may be refused: it is left to another one then.
    fn write_again(
        &self,
        segment: &Segment,
        durable: &Mark,
        tail: &Mark,
        is_whole: bool,
    ) -> Result<bool> {
        let from = segment.offset(durable.address.max(segment.first_frame()));
        let to = segment.offset(tail.address);
        let again = || {
            let mut at = from;
            let mut buffer = vec![0; 1 << 20];
            while at < to {
                let wanted = usize::try_from(to - at)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                let piece = buffer.get_mut(..wanted).unwrap_or_default();
                let n = read_full(&segment.file, piece, at)?;
                if n < wanted {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                write_all_at(&segment.file, &[IoSlice::new(piece)], at)?;
                at += n as u64;
            }
            Ok::<_, std::io::Error>(())
        };
        let outcome = match is_whole.then(again) {
            None => Err("its frames do not follow each other".to_owned()),
            Some(Ok(())) => Ok(()),
            Some(Err(e)) if is_refusal(&e) => return Err(segment.error("write", &e)),
            Some(Err(e)) => Err(e.to_string()),
        };
        if let Err(reason) = &outcome {
            let path = segment.path.display();
            self.poison_leading(format!(
                "a process died in a sync of {path}, and what had been written can't be written \
                 again: {reason}"
            ));
        }
        Ok(outcome.is_ok())
    }

    /// Whether the log from one mark to the other is what its frames say.
    fn is_whole(&self, durable: &Mark, tail: &Mark) -> Result<bool> {
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
            is_marked: durable.is_marked,
            unsynced: VecDeque::new(),
        };
        match self.follow(&mut known, tail, &mut |_, _| ()) {
            Ok(()) => Ok(true),
            Err(Error::Detached { .. }) => Ok(false),
            // Not that of the log: too many files are open, or the disk can't be read.
            Err(e) => Err(e),
        }
    }

    /// As [`Syncer::catch_up`]; a page that contradicts the log stops this opening.
    fn catch_up_or_stop(&self, joint: &Joint) -> Result<()> {
        self.stopping(self.catch_up(joint, ReadMode::Blocking))
    }

    /// Stops all writing where an outcome says that the means of coordination are lost.
    pub(super) fn stopping<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(lost @ Error::Detached { .. }) = &outcome {
            let is_first = self.stop(lost.clone());
            if is_first && let Some(joint) = self.coord().joint() {
                joint.page.condemn();
            }
        }
        outcome
    }

    /// Stops all writing of this opening; answers whether nothing had stopped it before.
    pub(super) fn stop(&self, reason: Error) -> bool {
        let _nothing_becomes_durable = self.known.lock();
        self.log.stop(reason)
    }

    /// Whether the segment is durable; poisons if not.
    fn sync_segment(&self, segment: &Segment) -> bool {
        if let Err(e) = segment.sync() {
            // A second sync could succeed without the data.
            self.poison_leading(format!("could not sync {}: {e}", segment.path.display()));
        }
        // Another sync of the file may have failed meanwhile, and have heard of what this
        // one was for.
        self.log.health().is_ok()
    }

    /// Makes what is durable visible and answers the head, unless the store is poisoned by
    /// now. A frame that the index can't take is durable all the same, but nobody may build
    /// on it.
    fn index_known(&self, known: MutexGuard<'_, Known>, address: u64) -> Option<u64> {
        // The marker of a poisoned store has told how far the log is durable: what became so
        // later will be cut off, and nobody may be told of it.
        self.log.health().ok()?;
        self.index(known, address)
    }

    fn index(&self, mut known: MutexGuard<'_, Known>, address: u64) -> Option<u64> {
        if !self.follows.load(Ordering::SeqCst) {
            return None;
        }
        let mut index = self.log.index.write();
        while let Some(written) = known.unsynced.pop_front_if(|w| w.entry.end() <= address) {
            let entry = &written.entry;
            if let Err(unfit) = index.apply(entry) {
                let place = entry.address;
                self.follow_no_more();
                drop((index, known));
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

    /// What this process knows may have a gap: nothing more is added to it.
    pub(super) fn follow_no_more(&self) {
        self.follows.store(false, Ordering::SeqCst);
    }

    /// Stops all writing for good, in every process, and leaves word of it for the next
    /// opening.
    pub(super) fn poison(&self, reason: String) {
        self.poison_with(reason, false);
    }

    /// As [`Syncer::poison`], for who leads the syncs, and so has the sync lock if there are
    /// others.
    fn poison_leading(&self, reason: String) {
        self.poison_with(reason, true);
    }

    fn poison_with(&self, reason: String, leads: bool) {
        let marking = self.marking.lock();
        let durable = {
            let _nothing_becomes_durable = self.known.lock();
            let poisoned = Error::Poisoned {
                reason: reason.clone(),
            };
            if !self.log.stop(poisoned) {
                return;
            }
            Seal {
                address: self.durable_end(),
                chain: self.durable_chain.load(Ordering::Acquire),
            }
        };
        let (durable, _lead) = match self.coord().shared() {
            None => (durable, None),
            Some(joint) => match self.poison_all(joint, leads) {
                None => return,
                // The page has an earlier end where the store was shared in this moment.
                Some((seal, lead)) if seal.address < durable.address => (durable, lead),
                Some(agreed) => agreed,
            },
        };
        if !*marking {
            self.leave_marker(durable, reason);
        }
    }

    /// Stops all writing in every process, and answers how far the log is durable, with the
    /// sync lock, unless the caller has it: others may leave a marker too.
    fn poison_all(&self, joint: &Joint, leads: bool) -> Option<(Seal, Option<LockGuard>)> {
        joint.page.poison();
        joint.page.ring();
        // Who holds the sync lock may be about to say that more is durable.
        let held = if leads {
            None
        } else {
            joint.locks.sync.hold_by(self.coord().deadline()).ok()?
        };
        if !leads && held.is_none() {
            return None;
        }
        let durable = joint.page.durable()?;
        let seal = Seal {
            address: durable.end,
            chain: durable.chain,
        };
        Some((seal, held))
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
        let _best_mode = marker.place(&segments.layout);
    }

    /// Returns once no marker is being written, and none will be: the directory is about to
    /// be somebody else's, whose commits a late marker would cut off.
    pub(super) fn end(&self) {
        *self.marking.lock() = true;
    }
}
