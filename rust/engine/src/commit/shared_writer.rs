//! The right to write: one thread of one session at a time has it.
//!
//! A session that is alone needs the lock of its own state only. In a shared store it first gets
//! its turn among the sessions, then takes over from the one that wrote last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::CommitClock;
use super::poison::Poison;
use super::publication::Publication;
use super::sync::Syncer;
use super::validate::Overlay;
use super::written::Tail;
use crate::coord::{LogPoint, Page, SharedSession, TicketGuard};
use crate::error::Result;
use crate::frame::{HEADER, Header};
use crate::live::LiveLog;
use crate::lock::{Mutex, MutexGuard};
use crate::log::{Segment, fill_zeros};
use crate::options::ReadMode;
use crate::vfs::read_full;

/// How long a caller's thread waits for another session at most.
const BRIEF: Duration = Duration::from_millis(20);

/// How long a thread may wait for another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitBudget {
    /// As long as a thread may that cannot be interrupted.
    Brief,
    /// As long as the options of the store allow.
    Full,
}

/// What the right to write protects.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) tail: Tail,
    /// Written frames that are perhaps not durable yet.
    pub(super) overlay: Overlay,
    pub(super) last_commit_time: u64,
    pub(super) clock: CommitClock,
    /// Whether the last frame is a sync marker that covers all before it.
    pub(super) ends_in_marker: bool,
}

/// The right to write, while a thread has it. The state is released before the turn among the
/// sessions ends.
#[derive(Debug)]
pub(super) struct WriteAccess<'a> {
    pub(super) writer: MutexGuard<'a, Writer>,
    _turn: Option<TicketGuard>,
}

/// Hands out the right to write.
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
            overlay: Overlay::default(),
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

    /// The state, for a thread that writes nothing. While it is held, no thread of this session
    /// is in a write phase.
    pub(super) fn state(&self) -> MutexGuard<'_, Writer> {
        self.state.lock()
    }

    /// Acquires the right to write, and reads all that was written before; `None` where the wait
    /// budget of a caller's thread is used up.
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
                // The store became shared just now: the write lock is needed, too.
                _ => continue,
            }
            return Ok(Some(WriteAccess {
                writer,
                _turn: turn,
            }));
        }
    }

    fn turn(&self, session: &SharedSession, budget: WaitBudget) -> Result<Option<TicketGuard>> {
        let deadline = match budget {
            WaitBudget::Brief => self.log.coord.deadline().min(Instant::now() + BRIEF),
            WaitBudget::Full => self.log.coord.deadline(),
        };
        // Whatever takes long to catch up on is read before the lock is taken, while other
        // sessions may write.
        self.poison.catch_up(session, ReadMode::Blocking)?;
        let taken = TicketGuard::acquire(&session.locks.write, &session.page, deadline);
        match self.poison.stopping(taken)? {
            Some(turn) => {
                session.page.set_writer(session.slot.number());
                self.log.counters.waits.add(u64::from(turn.waited));
                Ok(Some(turn))
            }
            None if budget == WaitBudget::Brief => Ok(None),
            None => Err(self.log.coord.stalled("its log", session.page.writer())),
        }
    }

    /// Takes over from the session that wrote last.
    fn take_over(&self, session: &SharedSession, writer: &mut Writer) -> Result<()> {
        self.poison.check_page(session)?;
        let Writer { tail, overlay, .. } = writer;
        let learnt = self.publication.learn(session, &mut |frame, entry| {
            overlay.note_frame(frame, entry);
        });
        *tail = self.poison.stopping(learnt)?;
        let point = self.publication.end_point();
        writer.last_commit_time = point.commit_time;
        writer.ends_in_marker = point.ends_in_marker;
        self.activate(&writer.tail.segment)?;
        self.clean_up(session, &writer.tail)?;
        let ends = self.check_end(&writer.tail);
        self.poison.stopping(ends)?;
        self.poison.catch_up(session, ReadMode::Blocking)
    }

    /// Zeroes, durably, what a process left that died while it wrote: what is written instead may
    /// go into the next segment, and the old bytes would be back after a loss of power.
    fn clean_up(&self, session: &SharedSession, tail: &Tail) -> Result<()> {
        let dirty = session.page.dirty();
        if dirty == 0 {
            return Ok(());
        }
        let segment = &tail.segment;
        if dirty > tail.address {
            if dirty > segment.end() {
                let reason = "it names a write beyond the end of a segment";
                return self.poison.stopping(Err(self.log.coord.detached(reason)));
            }
            let to = segment.offset(dirty).min(segment.measure()?);
            fill_zeros(&segment.file, segment.offset(tail.address), to)
                .map_err(|e| segment.error("zero", &e))?;
            self.syncer.alone(segment)?;
        }
        session.page.set_dirty(0);
        Ok(())
    }

    /// Refuses to write over a frame: if there is one at the end that the page records, or at the
    /// beginning of a later segment, the log continues there whatever the page records.
    fn check_end(&self, tail: &Tail) -> Result<()> {
        let later = self.log.segments.after(tail.segment.entry.ordinal)?;
        let places = later.iter().map(|segment| (segment, segment.first_frame()));
        for (segment, address) in std::iter::once((&tail.segment, tail.address)).chain(places) {
            let mut bytes = [0; HEADER];
            let n = read_full(&segment.file, &mut bytes, segment.offset(address))
                .map_err(|e| segment.error("read", &e))?;
            let bytes = bytes.get(..n).unwrap_or_default();
            let header = Header::read(bytes, self.log.seed, address);
            if header.is_some_and(|header| header.previous_chain == tail.chain) {
                let reason = "its record of the log's end is an older one";
                return Err(self.log.coord.detached(reason));
            }
        }
        Ok(())
    }

    /// Opens the segment that is about to be written to; all before it is durable.
    pub(super) fn activate(&self, segment: &Segment) -> Result<()> {
        segment.activate()?;
        self.log.segments.release_before(segment);
        Ok(())
    }

    /// Shares the store with the sessions that have sent a join request.
    pub(super) fn share(&self) -> Result<()> {
        let coord = &self.log.coord;
        let _writer = self.state.lock();
        let _guard = coord.maintain()?;
        let generation = self.log.segments.generation();
        let publish = |page: &Page| {
            // What was written is made durable first, so that one place in the log says both.
            self.syncer.sync_for_threads();
            // What is written may be lost by now, and is not to be called durable.
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
        // A session that has stopped writing shares the store only so that the others learn it.
        if led.is_err() && coord.shared().is_none() {
            return coord.share(Page::poison, is_stopped);
        }
        Ok(())
    }

    /// The end of the log, if all of it is durable and no sync marker records that yet.
    pub(super) fn unmarked_end(&self) -> Option<u64> {
        let writer = self.state.lock();
        let end = self.publication.durable_end();
        (!writer.ends_in_marker && end == writer.tail.address).then_some(end)
    }

    /// Whether the log ends in a sync marker that covers all before it.
    pub(super) fn ends_in_marker(&self) -> bool {
        let writer = self.state.lock();
        // If another session has written since, the end is its to mark.
        writer.ends_in_marker || self.publication.end_point().address > writer.tail.address
    }

    /// The first byte beyond the log, and beyond what is being written to it, that isn't
    /// zero. Of a poisoned store nothing is said: a failed write may not have been undone.
    pub(super) fn stray_byte(&self) -> Result<Option<(Arc<Segment>, u64)>> {
        // A session that only reads can't clean up after a process that died while it wrote.
        let is_silent = self.log.is_stopped()
            || self.log.coord.shared().is_some() && self.log.segments.is_read_only();
        if is_silent || self.stray_beyond(&self.publication.published())?.is_none() {
            return Ok(None);
        }
        // It was written meanwhile, most likely. No thread writes while these locks are held.
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
