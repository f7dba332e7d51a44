//! The write phase: groups of appends under one lock.
//!
//! Whoever finds nobody writing takes everything that is queued and writes it as one group,
//! then lets go of the write lock before the sync, so that the next group is written while
//! the disk still flushes this one. Appends that arrive during a write phase are taken by
//! the background thread. Groups form by themselves: the slower the disk, the larger.
//!
//! No answer leaves before the state that it speaks of is durable: that of a commit, and
//! just as much that of a conflict, a replay or a bare check.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::background::Chores;
use super::judge::{Overlay, State, Verdict};
use super::plan::{Plan, Stamp};
use super::prepare::{Appended, Prepared};
use super::request::Request;
use super::sync::Syncer;
use super::{Answer, Tail};
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::read::Effort;

/// Takes appends, and answers them.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) log: Arc<LiveLog>,
    /// Identifies this opening of the store in the frames it writes.
    epoch: u64,
    queue: Mutex<Queue>,
    /// Somebody is in the write phase and will look at the queue again after it.
    writing: AtomicBool,
    writer: Mutex<Writer>,
    syncer: Syncer,
    pub(super) chores: Chores,
}

/// What the write lock guards.
#[derive(Debug)]
struct Writer {
    tail: Tail,
    overlay: Overlay,
    last_commit_time: u64,
    ends_in_mark: bool,
}

#[derive(Default)]
struct Queue {
    requests: Vec<Request>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("requests", &self.requests.len())
            .finish_non_exhaustive()
    }
}

/// A group after its write phase.
struct Group {
    /// Every answer waits until this address is durable.
    judged_against: u64,
    answers: Vec<(Request, Answer)>,
}

impl Committer {
    pub(crate) fn new(log: Arc<LiveLog>, tail: Tail, epoch: u64, background: bool) -> Arc<Self> {
        let writer = Writer {
            tail: tail.clone(),
            overlay: Overlay::default(),
            last_commit_time: 0,
            ends_in_mark: true,
        };
        Arc::new(Self {
            epoch,
            queue: Mutex::default(),
            writing: AtomicBool::new(false),
            writer: Mutex::new(writer),
            syncer: Syncer::new(Arc::clone(&log), tail),
            log,
            chores: Chores::new(background),
        })
    }

    /// Queues an append and, when nobody else is writing, commits the queue in this thread.
    pub(crate) fn append(self: &Arc<Self>, request: Request) {
        if self.enqueue(request) {
            self.drive();
        }
    }

    /// Queues an append for the background thread.
    pub(crate) fn submit(self: &Arc<Self>, request: Request) {
        if self.enqueue(request) {
            self.drive_soon();
        }
    }

    /// Whether the request was queued; if not, it has been answered.
    fn enqueue(&self, request: Request) -> bool {
        self.log.counters.appends.add(1);
        let mut queue = self.queue.lock();
        let refused = if queue.closed {
            Err(Error::Closed)
        } else {
            self.log.health()
        };
        if let Err(e) = refused {
            drop(queue);
            request.answer(Err(e));
            return false;
        }
        queue.requests.push(request);
        true
    }

    /// Commits what is queued, unless somebody else is about to.
    pub(super) fn drive(self: &Arc<Self>) {
        loop {
            if self.writing.swap(true, Ordering::SeqCst) {
                return;
            }
            let written = catch_unwind(AssertUnwindSafe(|| self.write_group()));
            self.writing.store(false, Ordering::SeqCst);
            let Ok(group) = written else {
                self.log.poison("the committing thread panicked".to_owned());
                self.log.watch.end();
                self.refuse_queued();
                return;
            };
            // Who came during the write phase found this thread writing and went to wait.
            let left = !self.queue.lock().requests.is_empty();
            if left && self.chores.background {
                self.drive_soon();
            }
            self.finish(group);
            if !left || self.chores.background {
                return;
            }
        }
    }

    fn refuse_queued(&self) {
        let requests = std::mem::take(&mut self.queue.lock().requests);
        if let Err(poisoned) = self.log.health() {
            for request in requests {
                request.answer(Err(poisoned.clone()));
            }
        }
    }

    /// Judges and writes what is queued, as far as the segment has room.
    fn write_group(self: &Arc<Self>) -> Group {
        let mut writer = self.writer.lock();
        let durable_hint = self.syncer.durable_end();
        writer.overlay.forget_durable(durable_hint);
        // A clock that is set back must not make later commits look earlier.
        let now = self
            .log
            .segments
            .layout
            .vfs
            .now_micros()
            .max(writer.last_commit_time);
        let seed = self.log.seed;
        let stamp = Stamp {
            seed,
            durable_hint,
            commit_time: now,
            epoch: self.epoch,
        };
        let mut plan = Plan::new(&writer.tail, stamp);
        let mut requests = std::mem::take(&mut self.queue.lock().requests).into_iter();
        while let Some(mut request) = requests.next() {
            match self.place(&mut writer, &mut plan, &mut request.prepared) {
                Ok(Some(answer)) => plan.answers.push((request, answer)),
                Ok(None) => {
                    self.put_back(std::iter::once(request).chain(requests.by_ref()).collect());
                }
                Err(e) => plan.answers.push((request, Answer::Unwritten(Err(e)))),
            }
        }
        self.write(&mut writer, plan)
    }

    fn put_back(&self, mut requests: Vec<Request>) {
        let mut queue = self.queue.lock();
        requests.append(&mut queue.requests);
        queue.requests = requests;
    }

    /// Decides on one append; `None` when the group has frames already and the segment no
    /// room for one more.
    fn place(
        &self,
        writer: &mut Writer,
        plan: &mut Plan,
        prepared: &mut Prepared,
    ) -> Result<Option<Answer>> {
        self.log.health()?;
        let length = prepared.frame.len() as u64;
        if prepared.is_recorded() && plan.tail.address + length > plan.tail.segment.end() {
            if !plan.entries.is_empty() {
                return Ok(None);
            }
            self.roll(writer, length)?;
            plan.restart(&writer.tail);
        }
        let index = self.log.index.read();
        let state = State {
            index: &*index,
            written: &writer.overlay,
            group: &plan.overlay,
        };
        let verdict = state.judge(prepared);
        Ok(Some(match verdict {
            Verdict::Write => {
                let base_versions = state.base_versions(prepared);
                Answer::Written(plan.seal(prepared, &base_versions))
            }
            Verdict::Checked(appended) => Answer::Unwritten(Ok(appended)),
            Verdict::Known(address) => Answer::Known(address),
            Verdict::Replay(appended) => {
                self.log.counters.replays.add(1);
                Answer::Unwritten(Ok(appended))
            }
            Verdict::Refuse(error) => {
                self.log.counters.conflicts.add(1);
                Answer::Unwritten(Err(error))
            }
        }))
    }

    /// Goes on in the next segment. The old one is synced first, so that the first frame of
    /// a segment proves that everything before it was durable.
    fn roll(&self, writer: &mut Writer, length: u64) -> Result<()> {
        self.syncer.until(writer.tail.address)?;
        let next = self
            .log
            .segments
            .prepare_after(&writer.tail.segment, length)?;
        writer.tail.address = next.first_frame();
        writer.tail.segment = next;
        self.syncer.publish(&writer.tail, None);
        Ok(())
    }

    fn write(self: &Arc<Self>, writer: &mut Writer, mut plan: Plan) -> Group {
        if !plan.entries.is_empty() {
            if let Err(e) = plan.write() {
                return self.not_written(writer, plan, &e);
            }
            let frames = plan.entries.len() as u64;
            self.syncer.publish(&plan.tail, plan.entries.drain(..));
            writer.overlay.absorb(&mut plan.overlay);
            writer.last_commit_time = plan.commit_time();
            writer.ends_in_mark = plan.ends_in_mark;
            writer.tail = plan.tail;
            self.log.counters.groups.add(1);
            self.log.counters.commits.add(frames);
            self.log.counters.events.add(plan.events);
            self.maintain_soon();
        }
        Group {
            judged_against: writer.tail.address,
            answers: plan.answers,
        }
    }

    fn not_written(&self, writer: &Writer, plan: Plan, error: &std::io::Error) -> Group {
        let segment = &writer.tail.segment;
        let answer = match plan.unwrite() {
            Ok(()) => segment.error("write", error),
            Err(e) => {
                let path = segment.path.display();
                let reason = format!("writing {path} failed ({error}), undoing it too ({e})");
                self.log.poison(reason.clone());
                self.log.watch.end();
                Error::OutcomeUnknown { reason }
            }
        };
        Group {
            judged_against: self.syncer.durable(),
            answers: plan.refused(&answer),
        }
    }

    /// Waits for durability, then answers.
    fn finish(&self, group: Group) {
        if group.answers.is_empty() {
            return;
        }
        let durable = self.syncer.until(group.judged_against);
        for (request, answer) in group.answers {
            let result = match (&durable, answer) {
                (Ok(()), Answer::Written(appended)) => Ok(appended),
                (Ok(()), Answer::Unwritten(result)) => result,
                (Ok(()), Answer::Known(address)) => self.replay(&request.prepared, address),
                (Err(e), Answer::Written(_)) => Err(Error::OutcomeUnknown {
                    reason: e.to_string(),
                }),
                (Err(e), _) => Err(e.clone()),
            };
            request.answer(result);
        }
    }

    fn replay(&self, prepared: &Prepared, address: u64) -> Result<Appended> {
        let key = prepared.key.as_ref().ok_or(Error::Closed)?;
        self.log.counters.replays.add(1);
        self.log
            .committed_at(address, &key.text, Some(key.digest), Effort::Blocking)
    }

    /// The end of the log, and whether it needs a mark to carry its durable hint.
    pub(super) fn resting(&self) -> (u64, bool) {
        let writer = self.writer.lock();
        (writer.tail.address, !writer.ends_in_mark)
    }

    pub(super) fn published(&self) -> Tail {
        self.syncer.published()
    }

    /// The end of the last durable frame.
    pub(crate) fn durable_end(&self) -> u64 {
        self.syncer.durable_end()
    }

    /// Refuses further appends, finishes those queued, and makes all durable. Answers the
    /// end of the last frame and its chain, unless the store is poisoned.
    pub(crate) fn close(self: &Arc<Self>) -> Result<(u64, u64)> {
        self.queue.lock().closed = true;
        while !self.queue.lock().requests.is_empty() {
            self.drive();
            std::thread::yield_now();
        }
        self.chores.stop();
        // Taken to wait for a write phase that is still under way.
        let tail = self.writer.lock().tail.clone();
        self.log.watch.end();
        self.syncer.until(tail.address)?;
        Ok((self.syncer.durable_end(), tail.chain))
    }
}
