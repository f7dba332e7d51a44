//! The sync phase: one thread syncs for all waiting threads. The commits of these threads then
//! become visible.
//!
//! The same rule applies between sessions: the session that acquires the sync lock syncs for all
//! sessions, and the others wait for its notification.

use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::poison::Poison;
use super::publication::Publication;
use super::refused_write::is_refusal;
use crate::coord::{LockGuard, LogPoint, RECHECK, SharedSession, WaitBudget};
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::log::Segment;
use crate::mutex::{Condvar, Mutex};
use crate::options::ReadMode;
use crate::vfs::{read_full, write_all_at};

/// Makes the written log durable.
#[derive(Debug)]
pub(super) struct Syncer {
    log: Arc<LiveLog>,
    publication: Arc<Publication>,
    poison: Arc<Poison>,
    /// Whether a thread of this session leads a sync. The mutex protects only this flag and is not
    /// held during the sync, so that the other threads can sleep on `synced` until the sync ends.
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

    /// Return once everything below `target` is durable. If no other thread leads a sync, this
    /// thread leads one. The caller may hold the write lock. Waiters for new events are woken by
    /// the next `LiveLog::deliver`, not here.
    pub(super) fn sync_to(&self, target: u64) -> Result<()> {
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

    /// Sync one segment under the same locks as any other sync. The kernel reports a failed write
    /// only once. Under these locks, the thread that receives the report poisons the store before
    /// another sync of the file can succeed without the lost bytes.
    pub(super) fn sync_one_segment(&self, segment: &Segment) -> Result<()> {
        let mut outcome = Ok(());
        self.lead_unless(
            || false,
            || outcome = self.sync_one_segment_leading(segment),
        )?;
        outcome
    }

    fn sync_one_segment_leading(&self, segment: &Segment) -> Result<()> {
        let Some(session) = self.log.coord.shared() else {
            self.sync_segment(segment);
            return Ok(());
        };
        let Some(guard) = session
            .locks
            .sync
            .acquire_by(self.log.coord.deadline(WaitBudget::Full))?
        else {
            return Err(self
                .log
                .coord
                .lock_timed_out("the sync lock", session.page.syncer()));
        };
        session.page.set_syncer(session.slot.number());
        let finished = self.finish_sync(session);
        if matches!(finished, Ok(true)) {
            self.sync_with_busy_flag(session, segment);
        }
        self.release_and_notify(session, guard);
        finished.map(|_| ())
    }

    /// If a process died during a sync, complete that sync. Return `false` if the store has been
    /// poisoned because the sync can't be completed. The caller holds the sync lock.
    fn finish_sync(&self, session: &SharedSession) -> Result<bool> {
        if !session.page.is_sync_busy() {
            return Ok(true);
        }
        let (tail, durable) = self.ends(session)?;
        let segment = self.active_segment_of(&tail)?;
        if durable.address >= tail.address {
            return Ok(true);
        }
        let is_continuous = self.publication.is_continuous(&durable, &tail)?;
        self.rewrite(&segment, &durable, &tail, is_continuous)
    }

    /// Return the written end and the durable end of the log. The caller holds the sync lock.
    fn ends(&self, session: &SharedSession) -> Result<(LogPoint, LogPoint)> {
        // Read the written end of this session before the page. The page is read later, so its
        // written end can't be below that of this session unless the page is damaged.
        let written = self.publication.published().address;
        let ends = session.page.tail().zip(session.page.durable());
        let valid = ends.filter(|(tail, _)| tail.address >= written);
        let damaged = || self.log.coord.detached("a record in it is damaged");
        self.poison.stop_if_detached(valid.ok_or_else(damaged))
    }

    /// Return the segment that contains a point of the log, open for writing and syncing.
    fn active_segment_of(&self, point: &LogPoint) -> Result<Arc<Segment>> {
        let segment = self.publication.segment_of(point)?;
        segment.activate()?;
        Ok(segment)
    }

    /// Wait until no thread of this session leads a sync. Then call `lead`, unless `settled`
    /// returns true. Return an error if the store has stopped.
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
        // Check the health under the mutex: a leader whose sync failed has poisoned the store
        // before it reset the flag.
        self.log.health()?;
        *syncing = true;
        drop(syncing);
        if catch_unwind(AssertUnwindSafe(lead)).is_err() {
            self.publication.stop_indexing();
            self.poison.poison("the syncing thread panicked".to_owned());
        }
        *self.syncing.lock() = false;
        self.synced.notify_all();
        self.log.health()
    }

    /// Make one attempt to sync. `deadline` is set at the first wait for another process, and
    /// limits the waits of all attempts together.
    fn sync(&self, deadline: &mut Option<Instant>) -> Result<()> {
        match self.log.coord.shared() {
            None => self.sync_for_threads(),
            Some(session) => return self.sync_for_sessions(session, deadline),
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
        let indexed = self.publication.make_synced_visible(tail.address);
        self.poison.poison_if_unindexed(indexed);
    }

    fn sync_for_sessions(
        &self,
        session: &SharedSession,
        deadline: &mut Option<Instant>,
    ) -> Result<()> {
        let notifications = session.page.notifications();
        let before = self.publication.durable();
        self.poison.catch_up(session, ReadMode::Blocking)?;
        if self.publication.durable() > before {
            // Another session has synced. The caller checks whether its target is durable now.
            return Ok(());
        }
        if let Some(guard) = self
            .poison
            .stop_if_detached(session.locks.sync.try_acquire())?
        {
            session.page.set_syncer(session.slot.number());
            let led = self.lead_sync_of_sessions(session);
            self.release_and_notify(session, guard);
            led?;
        } else {
            let by = *deadline.get_or_insert_with(|| self.log.coord.deadline(WaitBudget::Full));
            if Instant::now() >= by {
                let syncer = session.page.syncer();
                return Err(self.log.coord.lock_timed_out("the sync lock", syncer));
            }
            self.log.counters.waits.add(1);
            // The holder of the lock may die without a notification, so the wait is short.
            session.page.wait_for_notification(notifications, RECHECK);
        }
        self.poison.catch_up(session, ReadMode::Blocking)
    }

    /// Release the sync lock, then notify the waiting sessions. In this order, a session that wakes
    /// finds the lock free.
    fn release_and_notify(&self, session: &SharedSession, guard: LockGuard) {
        drop(guard);
        session.page.notify();
        self.log.segments.layout.vfs.at("notified");
    }

    /// Sync the frames of all sessions. The caller holds the sync lock, and notifies the other
    /// sessions afterwards.
    fn lead_sync_of_sessions(&self, session: &SharedSession) -> Result<()> {
        let page = &session.page;
        self.poison
            .stop_if_detached(self.log.coord.check_page(session))?;
        if page.is_poisoned() {
            self.poison.stop(Error::Poisoned {
                reason: "a sync by another process failed".to_owned(),
            });
            return Ok(());
        }
        let (tail, durable) = self.ends(session)?;
        if durable.address >= tail.address {
            return Ok(());
        }
        let segment = self.active_segment_of(&tail)?;
        if !self.finish_sync(session)? || !self.sync_with_busy_flag(session, &segment) {
            return Ok(());
        }
        self.log.counters.fsyncs.add(1);
        self.log.segments.layout.vfs.at("durable");
        page.publish_durable(&tail);
        self.log.segments.layout.vfs.at("published");
        session.slot.publish(self.log.counters.read());
        Ok(())
    }

    /// Sync with the busy flag set in the page. If the process dies during the sync, the flag
    /// remains set. The next holder of the sync lock then has to assume that the kernel's report of
    /// a failed write is lost.
    fn sync_with_busy_flag(&self, session: &SharedSession, segment: &Segment) -> bool {
        session.page.set_sync_busy(true);
        let is_durable = self.sync_segment(segment);
        if is_durable {
            session.page.set_sync_busy(false);
        }
        is_durable
    }

    /// Rewrite, unchanged, the bytes from the durable end to the written end, after a process died
    /// during a sync. That process may have received the only report of a failed write. After the
    /// report the kernel treats the pages of the file as clean, and the next sync would not write
    /// them.
    ///
    /// `is_continuous` states whether the frames still form one chain. If they do not, a page of
    /// the file has lost its bytes, and the store is poisoned.
    ///
    /// If the kernel refuses the write for a reason that may concern this process alone, such as a
    /// quota, the error is returned and another process can try.
    fn rewrite(
        &self,
        segment: &Segment,
        durable: &LogPoint,
        tail: &LogPoint,
        is_continuous: bool,
    ) -> Result<bool> {
        let from = segment.offset(durable.address.max(segment.first_frame()));
        let to = segment.offset(tail.address);
        let write_again = || {
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
        let outcome = match is_continuous.then(write_again) {
            None => Err("they do not form one chain".to_owned()),
            Some(Ok(())) => Ok(()),
            Some(Err(e)) if is_refusal(&e) => return Err(segment.error("write", &e)),
            Some(Err(e)) => Err(e.to_string()),
        };
        if let Err(reason) = &outcome {
            let path = segment.path.display();
            self.poison.poison_leading(format!(
                "a process died during a sync of {path}, and the unsynced frames of this file \
                 can't be written again: {reason}"
            ));
        }
        Ok(outcome.is_ok())
    }

    /// Sync a segment. Return whether the segment is durable. A failure poisons the store.
    fn sync_segment(&self, segment: &Segment) -> bool {
        if let Err(e) = segment.sync() {
            // There is no second attempt, because it could succeed without having written the data.
            self.poison
                .poison_leading(format!("could not sync {}: {e}", segment.path.display()));
        }
        // Another thread may have synced the same file at the same time and received the report of
        // a failure that affects this sync too. That thread has poisoned the store.
        self.log.health().is_ok()
    }
}
