//! The write lock: only one thread of one session writes to the log at a time.
//!
//! A session that has the store to itself needs only the mutex of its own writer state. In a shared
//! store a session first acquires the sessions' write lock, in ticket order. It then takes over
//! from the session that wrote last: it reads the frames of that session, and cleans up if that
//! session died during a write.

use std::sync::Arc;

use super::commit_time::CommitClock;
use super::poison::Poison;
use super::publication::Publication;
use super::sync::Syncer;
use super::validate::UnsyncedState;
use super::written_log::Tail;
use crate::coord::{CoordPage, LogPoint, SharedSession, TicketGuard, WaitBudget};
use crate::error::Result;
use crate::frame::{HEADER, Header};
use crate::live::LiveLog;
use crate::log::{Segment, fill_zeros};
use crate::mutex::{Mutex, MutexGuard};
use crate::options::ReadMode;
use crate::vfs::read_full;

/// The state that the write lock protects.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) tail: Tail,
    /// Stream versions and keyed results of written frames that may not be durable yet.
    pub(super) unsynced_state: UnsyncedState,
    pub(super) last_commit_time: u64,
    pub(super) clock: CommitClock,
    /// Whether the last frame is a sync marker that covers all frames before it.
    pub(super) ends_in_marker: bool,
}

/// The write lock while a thread holds it. Fields are dropped in order of declaration: the mutex of
/// the writer state is released before the sessions' lock. So in a shared store a writing thread
/// has the state only while it holds both locks.
#[derive(Debug)]
pub(super) struct WriteAccess<'a> {
    pub(super) writer: MutexGuard<'a, Writer>,
    _turn: Option<TicketGuard>,
}

/// The write lock of this session, with the state that the lock protects.
#[derive(Debug)]
pub(super) struct SharedWriter {
    log: Arc<LiveLog>,
    publication: Arc<Publication>,
    poison: Arc<Poison>,
    syncer: Arc<Syncer>,
    state: Mutex<Writer>,
}

impl SharedWriter {
    pub(super) fn new(
        log: Arc<LiveLog>,
        publication: Arc<Publication>,
        poison: Arc<Poison>,
        syncer: Arc<Syncer>,
        (tail, durable): (Tail, &LogPoint),
    ) -> Self {
        let writer = Writer {
            tail,
            unsynced_state: UnsyncedState::default(),
            last_commit_time: durable.commit_time,
            clock: CommitClock::default(),
            ends_in_marker: durable.ends_in_marker,
        };
        Self {
            log,
            publication,
            poison,
            syncer,
            state: Mutex::new(writer),
        }
    }

    /// Lock the writer state without the sessions' lock, for a thread that does not write. While
    /// the state is locked, no thread of this session is in a write phase.
    pub(super) fn state(&self) -> MutexGuard<'_, Writer> {
        self.state.lock()
    }

    /// Acquire the write lock and read all frames that other sessions have written. Return `None`
    /// if a [`WaitBudget::Brief`] is used up.
    pub(super) fn enter(&self, budget: WaitBudget) -> Result<Option<WriteAccess<'_>>> {
        loop {
            let turn = match self.log.coord.shared() {
                None => None,
                Some(session) => match self.turn(session, budget)? {
                    Some(turn) => Some(turn),
                    None => return Ok(None),
                },
            };
            let mut writer = self.state.lock();
            match (self.log.coord.shared(), &turn) {
                (None, None) => {}
                (Some(session), Some(_)) => self.take_over(session, &mut writer)?,
                // The store became shared after the check above: start again, with the sessions'
                // lock.
                _ => continue,
            }
            return Ok(Some(WriteAccess {
                writer,
                _turn: turn,
            }));
        }
    }

    /// Acquire the sessions' write lock in ticket order. Return `None` if a [`WaitBudget::Brief`]
    /// is used up.
    fn turn(&self, session: &SharedSession, budget: WaitBudget) -> Result<Option<TicketGuard>> {
        let deadline = self.log.coord.deadline(budget);
        // Read the frames of other sessions before the lock is acquired. Other sessions can still
        // write while this session reads for a long time.
        self.poison.catch_up(session, ReadMode::Blocking)?;
        let acquired = TicketGuard::acquire(&session.locks.write, &session.page, deadline);
        match self.poison.stop_if_detached(acquired)? {
            Some(turn) => {
                session.page.set_writer(session.slot.number());
                self.log.counters.waits.add(u64::from(turn.waited));
                Ok(Some(turn))
            }
            None if budget == WaitBudget::Brief => Ok(None),
            None => Err(self
                .log
                .coord
                .lock_timed_out("the write lock", session.page.writer())),
        }
    }

    /// Take over from the session that wrote last: read its frames, and clean up if it died during
    /// a write.
    fn take_over(&self, session: &SharedSession, writer: &mut Writer) -> Result<()> {
        self.poison.check_page(session)?;
        let Writer {
            tail,
            unsynced_state,
            ..
        } = writer;
        let read = self.publication.read_written(session, &mut |frame, entry| {
            unsynced_state.note_frame(frame, entry, &self.log.index);
        });
        *tail = self.poison.stop_if_detached(read)?;
        let point = self.publication.end_point();
        writer.last_commit_time = point.commit_time;
        writer.ends_in_marker = point.ends_in_marker;
        self.activate(&writer.tail.segment)?;
        self.clean_up(session, &writer.tail)?;
        let ends = self.check_end(&writer.tail);
        self.poison.stop_if_detached(ends)?;
        self.poison.catch_up(session, ReadMode::Blocking)
    }

    /// If a process died during its write, zero the bytes that it left, and sync the zeros. The
    /// sync of the next frame may not cover them, because that frame may be in the next segment:
    /// after a loss of power the old bytes could reappear and be read as frames.
    fn clean_up(&self, session: &SharedSession, tail: &Tail) -> Result<()> {
        let dirty = session.page.dirty();
        if dirty == 0 {
            return Ok(());
        }
        let segment = &tail.segment;
        if dirty > tail.address {
            if dirty > segment.end() {
                let reason = "it records a write beyond the end of the segment";
                return self
                    .poison
                    .stop_if_detached(Err(self.log.coord.detached(reason)));
            }
            let to = segment.offset(dirty).min(segment.measure()?);
            fill_zeros(&segment.file, segment.offset(tail.address), to)
                .map_err(|e| segment.error("zero", &e))?;
            self.syncer.sync_one_segment(segment)?;
        }
        session.page.set_dirty(0);
        Ok(())
    }

    /// Return an error if the log has a frame after the written end that the page records: the next
    /// write could overwrite it. Such a frame continues the chain, either at that end or at the
    /// start of a later segment. It shows that the page is out of date and can't be trusted.
    fn check_end(&self, tail: &Tail) -> Result<()> {
        let later = self.log.segments.after(tail.segment.entry.ordinal)?;
        let starts = later.iter().map(|segment| (segment, segment.first_frame()));
        for (segment, address) in std::iter::once((&tail.segment, tail.address)).chain(starts) {
            let mut bytes = [0; HEADER];
            let n = read_full(&segment.file, &mut bytes, segment.offset(address))
                .map_err(|e| segment.error("read", &e))?;
            let bytes = bytes.get(..n).unwrap_or_default();
            let header = Header::read(bytes, self.log.seed, address);
            if header.is_some_and(|header| header.previous_chain == tail.chain) {
                let reason = "its record of the written end is out of date";
                return Err(self.log.coord.detached(reason));
            }
        }
        Ok(())
    }

    /// Open a segment for writing, and close the files of the segments before it. Those segments
    /// are durable.
    pub(super) fn activate(&self, segment: &Segment) -> Result<()> {
        segment.activate()?;
        self.log.segments.release_before(segment);
        Ok(())
    }

    /// Share the store with the sessions that have sent a join request.
    pub(super) fn share(&self) -> Result<()> {
        let coord = &self.log.coord;
        let _writer = self.state.lock();
        let _guard = coord.maintain()?;
        let generation = self.log.segments.generation();
        let publish = |page: &CoordPage| {
            // Sync first, so that the written end and the durable end are the same when they are
            // published.
            self.syncer.sync_for_threads();
            // After a failed sync the written frames may be lost and must not be published as
            // durable.
            if self.log.is_stopped() {
                return;
            }
            let point = self.publication.end_point();
            page.publish_tail(&point);
            page.publish_durable(&point);
            page.set_generation(generation);
            if let Some(session) = coord.session() {
                session.slot.publish(self.log.counters.read());
            }
        };
        let is_stopped = || self.log.is_stopped();
        let share = || {
            if let Err(lost) = coord.share(publish, is_stopped) {
                self.poison.stop(lost);
            }
        };
        let led = self.syncer.lead_unless(|| coord.shared().is_some(), share);
        // A session that has stopped writing still shares the store, with the page marked as
        // poisoned, so that the joining sessions get the error instead of a timeout.
        if led.is_err() && coord.shared().is_none() {
            return coord.share(CoordPage::poison, is_stopped);
        }
        Ok(())
    }

    /// Return the end of the log if everything is durable and no sync marker records that yet.
    pub(super) fn unmarked_end(&self) -> Option<u64> {
        let writer = self.state.lock();
        let end = self.publication.durable_end();
        (!writer.ends_in_marker && end == writer.tail.address).then_some(end)
    }

    /// Whether this session may still have to write a sync marker. There is none to write if the
    /// log ends in a marker that covers all frames before it, if another session has written since
    /// and is responsible for the marker, or if the store has stopped.
    pub(super) fn may_need_marker(&self) -> bool {
        let writer = self.state.lock();
        let is_marked =
            writer.ends_in_marker || self.publication.end_point().address > writer.tail.address;
        drop(writer);
        !is_marked && self.log.health().is_ok()
    }

    /// Find the first non-zero byte beyond the end of the log. If a write is in progress, wait for
    /// it first.
    ///
    /// Return `None` for a stopped store, in which a failed write may not have been rolled back.
    /// Also return `None` for a read-only session of a shared store: the bytes may be left over
    /// from a process that died during a write, and only a session that writes can zero them.
    pub(super) fn stray_byte(&self) -> Result<Option<(Arc<Segment>, u64)>> {
        let cannot_check = self.log.is_stopped()
            || self.log.coord.shared().is_some() && self.log.segments.is_read_only();
        if cannot_check || self.stray_beyond(&self.publication.published())?.is_none() {
            return Ok(None);
        }
        // The bytes probably belong to a write in progress. No thread writes while the write lock
        // is held, so acquire it and check again.
        let Some(access) = self.enter(WaitBudget::Full)? else {
            return Ok(None);
        };
        let stray = self.stray_beyond(&access.writer.tail)?;
        Ok(stray.filter(|_| !self.log.is_stopped()))
    }

    fn stray_beyond(&self, tail: &Tail) -> Result<Option<(Arc<Segment>, u64)>> {
        for segment in self.log.segments.all() {
            if segment.entry.base < tail.segment.entry.base {
                continue;
            }
            let from = segment.offset(tail.address.max(segment.first_frame()));
            if let Some(offset) = segment.first_non_zero(from)? {
                return Ok(Some((segment, offset)));
            }
        }
        Ok(None)
    }
}
