//! Takes appends, and answers them.
//!
//! A thread that finds no other one writing takes everything that is queued and writes it as
//! one batch. It releases the write lock before the sync, so that the next batch is written
//! while the disk still flushes this one. Appends that arrive during a write phase, or while a
//! few threads wait for the disk already, are left to the background thread. So the batches
//! grow by themselves: the slower the disk, the larger they are.
//!
//! No answer leaves before the state that it reports is durable: that of a commit, and just as
//! much that of a conflict, a replay or a check.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::answer::{Answer, WriteBatch};
use super::background::{BackgroundTasks, Work};
use super::poison::Poison;
use super::preallocation::Room;
use super::prepare::Prepared;
use super::publication::Publication;
use super::queue::AppendQueue;
use super::request::Request;
use super::reservations::Reservations;
use super::shared_writer::{SharedWriter, WaitBudget};
use super::sync::Syncer;
use super::watcher::Watcher;
use super::write_phase::{Outcome, WritePhase};
use super::written::Tail;
use crate::append::Appended;
use crate::coord::{LogPoint, SharedSession};
use crate::error::{Error, Result};
use crate::live::{LiveLog, LogEnd};
use crate::log::Segment;
use crate::options::ReadMode;

/// How many threads may write or sync at the same time. One more would be woken by each sync,
/// its own or not, only to wait for the next: its append is written together with others.
const CROWD: usize = 4;

/// How many queued bytes justify a write of their own even so, while the disk flushes.
const WORTH_OVERLAPPING: usize = 64 * 1024;

/// What a session begins to commit with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartingPoint {
    /// Identifies the session in the frames that it writes; drawn anew for each session.
    pub(crate) epoch: u64,
    /// Whether the session may have threads of its own.
    pub(crate) background: bool,
    /// The end of what is durable, at which this session begins.
    pub(crate) durable: LogPoint,
}

/// Takes appends, and answers them. Each part owns one piece of state:
///
/// | part | state |
/// |---|---|
/// | `queue`, `reservations` | appends that wait |
/// | `writer` | the right to write, and the end of the log |
/// | `phase` | nothing: it validates, writes, and undoes a write that failed |
/// | `syncer` | which thread leads a sync |
/// | `publication` | what is written, durable and visible |
/// | `poison` | the end of all writing |
/// | `room` | whether the disk is full |
/// | `tasks`, `watcher` | the threads |
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) log: Arc<LiveLog>,
    queue: Arc<AppendQueue>,
    reservations: Reservations,
    writer: Arc<SharedWriter>,
    phase: WritePhase,
    syncer: Arc<Syncer>,
    publication: Arc<Publication>,
    poison: Arc<Poison>,
    room: Arc<Room>,
    tasks: Arc<BackgroundTasks>,
    watcher: Arc<Watcher>,
    /// Whether a thread is in the write phase.
    writing: AtomicBool,
    /// How many threads write or sync a batch, and will look at the queue again after it.
    ///
    /// Sequentially consistent with the queue's lock: an append is queued before its thread
    /// looks at these two, and a committing thread looks at the queue after it has left them.
    committing: AtomicUsize,
}

impl Committer {
    pub(crate) fn new(log: Arc<LiveLog>, tail: Tail, start: StartingPoint) -> Arc<Self> {
        let StartingPoint {
            epoch,
            background,
            durable,
        } = start;
        let publication = Arc::new(Publication::new(Arc::clone(&log), tail.clone(), durable));
        let poison = Arc::new(Poison::new(Arc::clone(&log), Arc::clone(&publication)));
        let syncer = Arc::new(Syncer::new(
            Arc::clone(&log),
            Arc::clone(&publication),
            Arc::clone(&poison),
        ));
        let room = Arc::new(Room::new(
            Arc::clone(&log),
            Arc::clone(&publication),
            Arc::clone(&poison),
        ));
        let writer = Arc::new(SharedWriter::new(
            Arc::clone(&log),
            Arc::clone(&publication),
            Arc::clone(&poison),
            Arc::clone(&syncer),
            (tail, &durable),
        ));
        let tasks = Arc::new(BackgroundTasks::new(background));
        let queue = Arc::new(AppendQueue::default());
        let phase = WritePhase {
            log: Arc::clone(&log),
            queue: Arc::clone(&queue),
            publication: Arc::clone(&publication),
            poison: Arc::clone(&poison),
            syncer: Arc::clone(&syncer),
            room: Arc::clone(&room),
            epoch,
        };
        Arc::new(Self {
            reservations: Reservations::new(
                Arc::clone(&log),
                Arc::clone(&queue),
                Arc::clone(&tasks),
            ),
            watcher: Watcher::new(
                Arc::clone(&log),
                Arc::clone(&writer),
                Arc::clone(&poison),
                Arc::clone(&tasks),
            ),
            log,
            queue,
            writer,
            phase,
            syncer,
            publication,
            poison,
            room,
            tasks,
            writing: AtomicBool::new(false),
            committing: AtomicUsize::new(0),
        })
    }

    /// Queues an append and, when no other thread is writing, commits the queue in this thread.
    pub(crate) fn append(self: &Arc<Self>, request: Request) {
        if self.enqueue(request) {
            self.commit_pending(self.wait_budget());
        }
    }

    /// Queues an append for the background thread.
    pub(crate) fn submit(self: &Arc<Self>, request: Request) {
        if self.enqueue(request) {
            self.commit_soon();
        }
    }

    /// Returns whether the request was queued; if not, it has been answered.
    fn enqueue(&self, request: Request) -> bool {
        if !request.prepared.is_sync_marker() {
            self.log.counters.appends.add(1);
        }
        self.queue.push(request, || self.log.health())
    }

    /// Commits what is queued, unless another thread is about to.
    ///
    /// A caller's own thread waits only briefly for another session, and leaves the rest to the
    /// background thread: the caller can be interrupted meanwhile.
    fn commit_pending(self: &Arc<Self>, budget: WaitBudget) {
        while self.begins_batch() {
            let written = catch_unwind(AssertUnwindSafe(|| self.write_batch(budget)));
            self.writing.store(false, Ordering::SeqCst);
            let Ok(written) = written else {
                self.committing.fetch_sub(1, Ordering::SeqCst);
                return self.give_up();
            };
            let Some(batch) = written else {
                self.committing.fetch_sub(1, Ordering::SeqCst);
                return self.commit_soon();
            };
            self.hand_on(self.worth_writing());
            let durable = self.syncer.until(batch.judged_against);
            self.committing.fetch_sub(1, Ordering::SeqCst);
            // A thread that queued an append meanwhile found this one committing, and waits.
            let is_left_over = self.hand_on(0);
            self.answer(batch, &durable);
            if !is_left_over {
                return;
            }
        }
    }

    /// Has the background thread commit what is queued; without one this thread does it.
    fn commit_soon(self: &Arc<Self>) {
        if !self.tasks.request_commit(self) {
            self.reservations.restore_deferred();
            self.commit_pending(WaitBudget::Full);
        }
    }

    fn wait_budget(&self) -> WaitBudget {
        if self.tasks.has_threads() {
            WaitBudget::Brief
        } else {
            WaitBudget::Full
        }
    }

    /// Validates and writes what is queued, as far as the segment has room; `None` where
    /// another session kept this one from writing.
    fn write_batch(self: &Arc<Self>, budget: WaitBudget) -> Option<WriteBatch> {
        let outcome = match self.writer.enter(budget) {
            Ok(Some(mut access)) => {
                let reserved = self.reservations.in_force();
                self.phase.run(&mut access.writer, reserved.as_ref())
            }
            Ok(None) => return None,
            Err(e) => return Some(WriteBatch::refused(self.queue.take(), &e)),
        };
        let Outcome {
            batch,
            has_deferred,
            has_grown,
        } = outcome;
        if has_deferred {
            self.tasks.request_commit(self);
        }
        if has_grown {
            self.tasks.request_maintenance(self);
        }
        Some(batch)
    }

    /// Poisons the store after a panic in the write phase.
    fn give_up(&self) {
        self.publication.follow_no_more();
        self.poison
            .poison("the committing thread panicked".to_owned());
        let requests = self.queue.take_all();
        if let Err(poisoned) = self.log.health() {
            for request in requests {
                request.answer(Err(poisoned.clone()));
            }
        }
        self.log.deliver(ReadMode::Blocking);
    }

    /// Whether this thread is to write a batch. If not, the thread that commits now will look at
    /// the queue again.
    fn begins_batch(&self) -> bool {
        let worth = self.worth_writing();
        if !self.queue.holds(worth) || self.writing.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.committing.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// How many bytes a queue must hold to be written now, and not after a sync.
    fn worth_writing(&self) -> usize {
        let is_crowded = self.committing.load(Ordering::SeqCst) >= CROWD;
        if is_crowded { WORTH_OVERLAPPING } else { 0 }
    }

    /// Has the background thread commit a queue of so many bytes; `true` if there is such a
    /// queue, and no thread but this one.
    fn hand_on(self: &Arc<Self>, bytes: usize) -> bool {
        let is_left = self.queue.holds(bytes);
        if is_left && self.tasks.has_threads() {
            self.commit_soon();
            return false;
        }
        is_left
    }

    /// Answers the appends of a batch. No lock is held, because a callback may call the store.
    fn answer(&self, batch: WriteBatch, durable: &Result<()>) {
        self.log.deliver(ReadMode::Blocking);
        for (request, answer) in batch.answers {
            let result = match (durable, answer) {
                (Ok(()), Answer::Written(appended) | Answer::Replayed(appended)) => Ok(appended),
                (Err(e), Answer::Written(_) | Answer::Replayed(_)) => Err(Error::OutcomeUnknown {
                    reason: e.to_string(),
                }),
                (_, Answer::Known(address)) => self.replay(&request.prepared, address),
                (Ok(()), Answer::Unwritten(result)) => result,
                (Err(e), Answer::Unwritten(_)) => Err(e.clone()),
            };
            request.answer(result);
        }
    }

    fn replay(&self, prepared: &Prepared, address: u64) -> Result<Appended> {
        let key = prepared.key.as_ref().ok_or(Error::Closed)?;
        self.log.counters.replays.add(1);
        self.log
            .committed_at(address, &key.text, Some(key.digest), ReadMode::Blocking)
    }

    /// The end of the log that all sessions have made durable, for the last one that leaves.
    pub(crate) fn end_of_all(&self, session: &SharedSession) -> Option<(u64, u64)> {
        let (tail, durable) = (session.page.tail()?, session.page.durable()?);
        (tail == durable && !session.page.is_poisoned() && !self.log.is_stopped())
            .then_some((durable.end, durable.chain))
    }

    /// Reserves streams; see [`Reservations::reserve`].
    pub(crate) fn reserve(
        &self,
        streams: impl Iterator<Item = u128>,
        time: Duration,
    ) -> Result<Option<u64>> {
        self.reservations.reserve(streams, time)
    }

    /// Ends a reservation, unless it has ended.
    pub(crate) fn release(self: &Arc<Self>, id: u64) {
        self.log.coord.release(id);
        if self.queue.has_deferred() {
            self.commit_soon();
        }
    }

    /// Starts to listen to other sessions.
    pub(crate) fn watch_others(&self) -> Result<()> {
        self.watcher.start()
    }

    /// Makes sure that waiters learn of other sessions' commits.
    pub(crate) fn attend(&self) {
        self.watcher.attend();
    }

    /// Makes visible what other sessions have made durable.
    pub(crate) fn catch_up(&self, mode: ReadMode) -> Result<()> {
        match self.log.coord.shared() {
            None => Ok(()),
            Some(session) => self.poison.catch_up(session, mode),
        }
    }

    /// As [`Committer::catch_up`], without a wait: where there is much to read, the thread of
    /// the watcher does it.
    pub(crate) fn catch_up_soon(&self) {
        let mode = if self.tasks.has_threads() {
            ReadMode::NonBlocking
        } else {
            ReadMode::Blocking
        };
        if matches!(self.catch_up(mode), Err(Error::WouldBlock)) {
            self.watcher.wake();
        }
    }

    /// Records in the manifest how far the log is durable.
    pub(crate) fn record_durable(&self, (end, chain): (u64, u64)) -> Result<()> {
        let recorded = self.log.segments.record_durable(end, chain);
        recorded.inspect_err(|e| self.poison.poison_if_unsure(e))
    }

    /// Refuses further appends, finishes those queued, and makes all durable. Returns the end
    /// of the last frame and its chain, unless the store is poisoned.
    pub(crate) fn close(self: &Arc<Self>) -> Result<(u64, u64)> {
        self.queue.close();
        let (end, chain) = loop {
            while !self.queue.is_empty() {
                self.reservations.restore_deferred();
                self.commit_pending(WaitBudget::Full);
                std::thread::yield_now();
            }
            // Held so that no thread is in a write phase, which might put requests back.
            let writer = self.writer.state();
            if self.queue.is_empty() {
                break (writer.tail.address, writer.tail.chain);
            }
        };
        self.tasks.begin_stop();
        self.watcher.wake();
        self.tasks.stop();
        self.log.watch.end();
        let durable = self.syncer.until(end);
        self.log.deliver(ReadMode::Blocking);
        durable.and_then(|()| self.log.health())?;
        Ok((self.publication.durable_end(), chain))
    }

    /// Has this session write nothing more to the directory, whatever its threads still do.
    pub(crate) fn end(&self) {
        self.poison.end();
    }

    /// Ends a resting log with a sync marker whose durable hint covers every commit before it.
    fn write_marker_when_resting(self: &Arc<Self>) {
        let mut before = None;
        while !self.writer.ends_in_marker() && self.log.health().is_ok() && self.tasks.rest() {
            let now = self.writer.unmarked_end();
            if now.is_some() && now == before {
                let answered = Box::new(|_: Result<Appended>| ());
                self.append(Request::new(Prepared::sync_marker(), answered));
            }
            if self.room.prepare_room().is_err() {
                return;
            }
            before = now;
        }
    }
}

impl Work for Committer {
    fn tasks(&self) -> &BackgroundTasks {
        &self.tasks
    }

    fn commit(self: &Arc<Self>) {
        self.reservations.restore_deferred();
        self.commit_pending(WaitBudget::Full);
    }

    fn commit_interval(&self) -> Option<Duration> {
        self.queue.deferred_check()
    }

    fn maintain(self: &Arc<Self>) {
        // Room that can't be made ahead is made by the append that needs it, which then
        // reports the failure.
        let _made_ahead = self.room.prepare_room();
        self.write_marker_when_resting();
    }
}

impl LogEnd for Committer {
    fn durable_end(&self) -> u64 {
        self.publication.durable_end()
    }

    fn stray_byte(&self) -> Result<Option<(Arc<Segment>, u64)>> {
        self.writer.stray_byte()
    }
}
