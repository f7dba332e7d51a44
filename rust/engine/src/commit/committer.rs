//! Accept appends, commit them in batches, and answer them.
//!
//! Group commit: the first thread that finds no other thread writing takes all queued appends and
//! writes them as one batch. This thread releases the write lock before the sync, so the next batch
//! can be written while the disk still flushes this one. Appends that arrive during a write phase,
//! or while the maximum number of threads (`concurrent_batches`) already wait for the disk, stay
//! queued for the background thread. The batch size adapts to the disk: the slower the disk, the
//! larger the batches.
//!
//! No answer is sent before the state that it reports is durable. This applies to commits and also
//! to conflicts, replays and checks. Otherwise a loss of power could undo a state that the store
//! has already reported to a caller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::answer::WriteBatch;
use super::background_tasks::{BackgroundTasks, Work};
use super::concurrent_batches::ConcurrentBatches;
use super::deferred_appends::Reservations;
use super::idle_marker;
use super::notification_listener::NotificationListener;
use super::poison::Poison;
use super::preallocation::Preallocation;
use super::publication::Publication;
use super::queue::AppendQueue;
use super::request::Request;
use super::shared_writer::SharedWriter;
use super::sync::Syncer;
use super::write_phase::{Outcome, WritePhase};
use super::written_log::Tail;
use crate::coord::{LogPoint, SharedSession, WaitBudget};
use crate::error::{Error, Result};
use crate::live::{LiveLog, LogEnd};
use crate::log::Segment;
use crate::options::ReadMode;

/// The state in which a session starts to commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartingPoint {
    /// A random number that identifies the session in the frames that it writes.
    pub(crate) epoch: u64,
    /// Whether the session may start threads.
    pub(crate) background: bool,
    /// The durable end of the log when the session starts.
    pub(crate) durable: LogPoint,
}

/// Accepts appends and answers them. Each part has its own state:
///
/// | part | state |
/// |---|---|
/// | `queue`, `reservations` | the appends that wait |
/// | `concurrent_batches` | how many threads write and sync |
/// | `writer` | the write lock, and the tail of the log |
/// | `phase` | none: it validates, writes, and rolls back a failed write |
/// | `syncer` | whether a thread leads a sync |
/// | `publication` | how far the log is written, durable and visible |
/// | `poison` | whether this session may still write a poison marker |
/// | `preallocation` | whether the disk is full |
/// | `tasks`, `listener` | the background threads |
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
    preallocation: Arc<Preallocation>,
    tasks: Arc<BackgroundTasks>,
    listener: Arc<NotificationListener>,
    concurrent_batches: ConcurrentBatches,
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
        let preallocation = Arc::new(Preallocation::new(
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
            preallocation: Arc::clone(&preallocation),
            epoch,
        };
        Arc::new(Self {
            reservations: Reservations::new(
                Arc::clone(&log),
                Arc::clone(&queue),
                Arc::clone(&tasks),
            ),
            listener: NotificationListener::new(
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
            preallocation,
            tasks,
            concurrent_batches: ConcurrentBatches::default(),
        })
    }

    /// Queue an append. If no other thread is writing, commit the queue in this thread.
    pub(crate) fn append(self: &Arc<Self>, request: Request) {
        if self.enqueue(request) {
            self.commit_pending(self.wait_budget());
        }
    }

    /// Queue an append for the background thread.
    pub(crate) fn submit(self: &Arc<Self>, request: Request) {
        if self.enqueue(request) {
            self.commit_soon();
        }
    }

    /// Queue a request and return `true`, or answer it with an error and return `false`.
    fn enqueue(&self, request: Request) -> bool {
        if !request.prepared.is_sync_marker() {
            self.log.counters.appends.add(1);
        }
        self.queue.push(request, || self.log.health())
    }

    /// Commit the queued appends, unless another thread will commit them.
    ///
    /// If another session holds the write lock, a caller's thread waits only briefly and then
    /// leaves the queue to the background thread. A signal such as Ctrl-C can't interrupt the
    /// thread while it waits here.
    fn commit_pending(self: &Arc<Self>, budget: WaitBudget) {
        while self.concurrent_batches.try_begin(&self.queue) {
            let written = catch_unwind(AssertUnwindSafe(|| self.write_batch(budget)));
            self.concurrent_batches.end_write();
            let Ok(written) = written else {
                self.concurrent_batches.end_batch();
                return self.poison_after_panic();
            };
            let Some(batch) = written else {
                self.concurrent_batches.end_batch();
                return self.commit_soon();
            };
            // Appends may have been queued during the write. If they are worth a batch of their
            // own, the background thread writes them while this thread syncs.
            self.delegate_queue(self.concurrent_batches.min_batch_bytes());
            let durable = self.syncer.sync_to(batch.validated_against);
            self.concurrent_batches.end_batch();
            // During the sync another thread may have queued an append and left it there, because
            // the number of committing threads was at its maximum. That thread relies on this
            // check.
            let is_left_over = self.delegate_queue(0);
            batch.answer(&durable, &self.log);
            if !is_left_over {
                return;
            }
        }
    }

    /// Request a commit from the background thread. Without background threads, commit in this
    /// thread.
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

    /// Validate and write the queued appends that fit into the segment. Return `None` if another
    /// session holds the write lock for longer than the wait budget.
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

    /// Poison the store after a panic in the write phase, because it is unknown which bytes were
    /// written.
    fn poison_after_panic(&self) {
        self.publication.stop_indexing();
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

    /// Request a commit from the background thread if the queue is not empty and has at least
    /// `bytes` bytes. If there is no background thread, return `true`: the caller then has to commit
    /// the queue.
    fn delegate_queue(self: &Arc<Self>, bytes: usize) -> bool {
        let is_left = self.queue.holds(bytes);
        if is_left && self.tasks.has_threads() {
            self.commit_soon();
            return false;
        }
        is_left
    }

    /// Return the end of the log and the hash chain there, or `None` if a part of the log is not
    /// durable. The last session of a shared store calls this when it closes the store.
    pub(crate) fn durable_end_of_log(&self, session: &SharedSession) -> Option<(u64, u64)> {
        let (tail, durable) = (session.page.tail()?, session.page.durable()?);
        (tail == durable && !session.page.is_poisoned() && !self.log.is_stopped())
            .then_some((durable.end, durable.chain))
    }

    /// Reserve streams; see [`Reservations::reserve`].
    pub(crate) fn reserve(
        &self,
        streams: impl Iterator<Item = u128>,
        time: Duration,
    ) -> Result<Option<u64>> {
        self.reservations.reserve(streams, time)
    }

    /// End the reservation with this id, if it is still recorded.
    pub(crate) fn release(self: &Arc<Self>, id: u64) {
        self.log.coord.release(id);
        // The appends that have waited for the reservation can now be written.
        if self.queue.has_deferred() {
            self.commit_soon();
        }
    }

    /// Start to follow the join requests and commits of other sessions.
    pub(crate) fn watch_others(&self) -> Result<()> {
        self.listener.start()
    }

    /// Ensure that waiters are notified of other sessions' commits.
    pub(crate) fn listen(&self) {
        self.listener.listen();
    }

    /// Make visible the frames that other sessions have made durable.
    pub(crate) fn catch_up(&self, mode: ReadMode) -> Result<()> {
        match self.log.coord.shared() {
            None => Ok(()),
            Some(session) => self.poison.catch_up(session, mode),
        }
    }

    /// Like [`Committer::catch_up`]. If background threads are running, leave a long read to the
    /// listener's thread.
    pub(crate) fn catch_up_soon(&self) {
        let mode = if self.tasks.has_threads() {
            ReadMode::NonBlocking
        } else {
            ReadMode::Blocking
        };
        if matches!(self.catch_up(mode), Err(Error::WouldBlock)) {
            self.listener.wake();
        }
    }

    /// Record in the manifest how far the log is durable.
    pub(crate) fn record_durable(&self, (end, chain): (u64, u64)) -> Result<()> {
        let recorded = self.log.segments.record_durable(end, chain);
        recorded.inspect_err(|e| self.poison.poison_if_unsure(e))
    }

    /// Refuse further appends, commit the queued ones and make the whole log durable. Return the
    /// end of the last frame and the hash chain there, or the error of a poisoned store.
    pub(crate) fn close(self: &Arc<Self>) -> Result<(u64, u64)> {
        self.queue.close();
        let (end, chain) = loop {
            while !self.queue.is_empty() {
                self.reservations.restore_deferred();
                self.commit_pending(WaitBudget::Full);
                std::thread::yield_now();
            }
            // While this lock is held, no thread is in a write phase, so no thread can put requests
            // back into the queue.
            let writer = self.writer.state();
            if self.queue.is_empty() {
                break (writer.tail.address, writer.tail.chain);
            }
        };
        self.tasks.begin_stop();
        self.listener.wake();
        self.tasks.stop();
        self.log.watch.end();
        let durable = self.syncer.sync_to(end);
        self.log.deliver(ReadMode::Blocking);
        durable.and_then(|()| self.log.health())?;
        Ok((self.publication.durable_end(), chain))
    }

    /// Prevent this session from writing to the directory from now on, even in threads that are
    /// still running.
    pub(crate) fn end(&self) {
        self.poison.end();
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
        // If preallocation fails here, the append that needs the space tries again and reports the
        // failure.
        let _preallocated = self.preallocation.preallocate();
        let append = |marker| self.append(marker);
        idle_marker::append_when_idle(&self.tasks, &self.writer, &self.preallocation, append);
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
