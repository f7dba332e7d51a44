//! The sync phase: one caller syncs for all, then the commits become visible.
//!
//! Between sessions it is the same: the session that gets the sync lock syncs for all of them,
//! and the others wait to be notified.

use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::answer::is_refusal;
use super::poison::Poison;
use super::publication::Publication;
use crate::coord::{LockGuard, LogPoint, RECHECK, SharedSession};
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::lock::{Condvar, Mutex};
use crate::log::Segment;
use crate::options::ReadMode;
use crate::vfs::{read_full, write_all_at};

/// Makes what is written durable.
#[derive(Debug)]
pub(super) struct Syncer {
    log: Arc<LiveLog>,
    publication: Arc<Publication>,
    poison: Arc<Poison>,
    /// Whether a thread of this session leads a sync.
    syncing: Mutex<bool>,
    synced: Condvar,
}

impl Syncer {
    pub(super) fn new(
        log: Arc<LiveLog>,
        publication: Arc<Publication>,
        poison: Arc<Poison>,
    ) -> Self {
        Self {
            log,
            publication,
            poison,
            syncing: Mutex::new(false),
            synced: Condvar::new(),
        }
    }

    /// Returns once everything below `target` is durable. The caller may hold the write lock.
    /// The next delivery wakes the waiters for the head.
    pub(super) fn until(&self, target: u64) -> Result<()> {
        let mut deadline = None;
        while self.publication.durable() < target {
            let mut outcome = Ok(());
            self.lead_unless(
                || self.publication.durable() >= target,
                || outcome = self.sync(&mut deadline),
            )?;
            outcome?;
        }
        Ok(())
    }

    /// Syncs one segment, under the same locks as any sync: the kernel reports a failed write
    /// once, and the thread that gets the report must be the one that poisons the store.
    pub(super) fn alone(&self, segment: &Segment) -> Result<()> {
        let mut outcome = Ok(());
        self.lead_unless(|| false, || outcome = self.sync_alone(segment))?;
        outcome
    }

    fn sync_alone(&self, segment: &Segment) -> Result<()> {
        let Some(session) = self.log.coord.shared() else {
            self.sync_segment(segment);
            return Ok(());
        };
        let Some(held) = session.locks.sync.hold_by(self.log.coord.deadline())? else {
            return Err(self
                .log
                .coord
                .stalled("the sync of the log", session.page.syncer()));
        };
        session.page.set_syncer(session.slot.number());
        let finished = self.finish_sync(session);
        if matches!(finished, Ok(true)) {
            self.sync_busily(session, segment);
        }
        self.hand_over(session, held);
        finished.map(|_| ())
    }

    /// Completes the sync of a process that died in it; `false` if that poisons the store.
    /// The caller holds the sync lock.
    fn finish_sync(&self, session: &SharedSession) -> Result<bool> {
        if !session.page.is_sync_busy() {
            return Ok(true);
        }
        let (tail, durable) = self.ends(session)?;
        let segment = self.active_segment_of(&tail)?;
        if durable.address >= tail.address {
            return Ok(true);
        }
        let is_whole = self.publication.is_whole(&durable, &tail)?;
        self.write_again(&segment, &durable, &tail, is_whole)
    }

    /// Where the log ends, and how far it is durable. The caller holds the sync lock.
    fn ends(&self, session: &SharedSession) -> Result<(LogPoint, LogPoint)> {
        // Read before the page is: its record of the end goes on with what is known here.
        let written = self.publication.published().address;
        let ends = session.page.tail().zip(session.page.durable());
        let whole = ends.filter(|(tail, _)| tail.address >= written);
        let lost = || self.log.coord.detached("a record in it is damaged");
        self.poison.stopping(whole.ok_or_else(lost))
    }

    /// The segment of a point, open to be written to and synced.
    fn active_segment_of(&self, point: &LogPoint) -> Result<Arc<Segment>> {
        let segment = self.publication.segment_of(point)?;
        segment.activate()?;
        Ok(segment)
    }

    /// Waits until no thread of this session leads the syncs, then leads unless `settled`.
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
        // Checked under the lock: a leader before this one that failed has poisoned by now.
        self.log.health()?;
        *syncing = true;
        drop(syncing);
        if catch_unwind(AssertUnwindSafe(lead)).is_err() {
            self.publication.follow_no_more();
            self.poison.poison("the syncing thread panicked".to_owned());
        }
        *self.syncing.lock() = false;
        self.synced.notify_all();
        self.log.health()
    }

    /// One attempt to make more durable. `deadline` is by when another process must have done
    /// what it holds the sync lock for; it begins with the first wait.
    fn sync(&self, deadline: &mut Option<Instant>) -> Result<()> {
        match self.log.coord.shared() {
            None => self.sync_for_threads(),
            Some(session) => return self.sync_for_processes(session, deadline),
        }
        Ok(())
    }

    pub(super) fn sync_for_threads(&self) {
        let tail = self.publication.published();
        if tail.address <= self.publication.durable() || !self.sync_segment(&tail.segment) {
            return;
        }
        self.log.counters.fsyncs.add(1);
        self.log.segments.layout.vfs.at("durable");
        let shown = self.publication.show_synced(tail.address);
        self.poison.indexed(shown);
    }

    fn sync_for_processes(
        &self,
        session: &SharedSession,
        deadline: &mut Option<Instant>,
    ) -> Result<()> {
        let notifications = session.page.notifications();
        let before = self.publication.durable();
        self.poison.catch_up(session, ReadMode::Blocking)?;
        if self.publication.durable() > before {
            return Ok(());
        }
        if let Some(held) = self.poison.stopping(session.locks.sync.try_hold())? {
            session.page.set_syncer(session.slot.number());
            let led = self.lead_processes(session);
            self.hand_over(session, held);
            led?;
        } else {
            let by = *deadline.get_or_insert_with(|| self.log.coord.deadline());
            if Instant::now() >= by {
                let syncer = session.page.syncer();
                return Err(self.log.coord.stalled("the sync of the log", syncer));
            }
            self.log.counters.waits.add(1);
            // The holder of the lock may die with it and send no notification.
            session.page.wait_for_notification(notifications, RECHECK);
        }
        self.poison.catch_up(session, ReadMode::Blocking)
    }

    /// Releases the sync lock, and only then notifies the sessions that wait: the next leader
    /// finds it free.
    fn hand_over(&self, session: &SharedSession, held: LockGuard) {
        drop(held);
        session.page.notify();
        self.log.segments.layout.vfs.at("rung");
    }

    /// Syncs what all sessions have written. The caller holds the sync lock, and notifies the
    /// others afterwards.
    fn lead_processes(&self, session: &SharedSession) -> Result<()> {
        let page = &session.page;
        self.poison.stopping(self.log.coord.check_page(session))?;
        if page.is_poisoned() {
            self.poison.stop(Error::Poisoned {
                reason: "another process of the store failed to sync".to_owned(),
            });
            return Ok(());
        }
        let (tail, durable) = self.ends(session)?;
        if durable.address >= tail.address {
            return Ok(());
        }
        let segment = self.active_segment_of(&tail)?;
        if !self.finish_sync(session)? || !self.sync_busily(session, &segment) {
            return Ok(());
        }
        self.log.counters.fsyncs.add(1);
        self.log.segments.layout.vfs.at("durable");
        page.publish_durable(&tail);
        self.log.segments.layout.vfs.at("told");
        session.slot.publish(self.log.counters.read());
        Ok(())
    }

    /// Syncs under the sync lock. If the process dies in the sync, the flag stays set: the next
    /// holder then knows that the kernel's report of a failed write may be lost.
    fn sync_busily(&self, session: &SharedSession, segment: &Segment) -> bool {
        session.page.set_sync_busy(true);
        let is_durable = self.sync_segment(segment);
        if is_durable {
            session.page.set_sync_busy(false);
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
        durable: &LogPoint,
        tail: &LogPoint,
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
            self.poison.poison_leading(format!(
                "a process died in a sync of {path}, and what had been written can't be written \
                 again: {reason}"
            ));
        }
        Ok(outcome.is_ok())
    }

    /// Whether the segment is durable; poisons if not.
    fn sync_segment(&self, segment: &Segment) -> bool {
        if let Err(e) = segment.sync() {
            // A second sync could succeed without the data.
            self.poison
                .poison_leading(format!("could not sync {}: {e}", segment.path.display()));
        }
        // Another sync of the file may have failed meanwhile, and have heard of what this
        // one was for.
        self.log.health().is_ok()
    }
}
