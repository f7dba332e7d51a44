//! The write phase: groups of appends under one lock.
//!
//! Whoever finds nobody writing takes everything that is queued and writes it as one group,
//! then lets go of the write lock before the sync, so that the next group is written while
//! the disk still flushes this one. Appends that arrive during a write phase, or when a few
//! threads wait for the disk already, are taken by the background thread. Groups form by
//! themselves: the slower the disk, the larger.
//!
//! No answer leaves before the state that it speaks of is durable: that of a commit, and
//! just as much that of a conflict, a replay or a bare check.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::lock::{Mutex, MutexGuard};

use super::background::Chores;
use super::clock::{Clocks, CommitClock};
use super::judge::{Overlay, State, Verdict};
use super::plan::{Plan, Stamp};
use super::prepare::Prepared;
use super::request::Request;
use super::sync::Syncer;
use super::watcher::Watcher;
use super::{Answer, Tail, is_refusal};
use crate::append::Appended;
use crate::coord::{Joint, LONGEST_RESERVATION, Mark, Page, Reserved, Turn};
use crate::error::{Error, Result};
use crate::frame::{HEADER, Header};
use crate::live::{LiveLog, LogEnd};
use crate::log::{Segment, fill_step, fill_zeros};
use crate::options::ReadMode;
use crate::vfs::read_full;

/// So many threads may write or sync at the same time. One more would be woken by each sync,
/// its own or not, only to wait for the next: what it brings goes with what others bring.
const CROWD: usize = 4;

/// How many queued bytes are worth a write of their own even so, while the disk flushes.
const WORTH_OVERLAPPING: usize = 64 * 1024;

/// How long a caller's thread waits for another process, at most.
const BRIEF: Duration = Duration::from_millis(20);

/// How often it is looked whether a reservation has ended. Its holder may be another process,
/// which doesn't wake this one.
const DEFERRED_CHECK: Duration = Duration::from_millis(1);

/// How often it is looked whether the session that holds a reservation is alive.
const HOLDER_CHECK_MICROS: u64 = 20_000;

/// How long another process is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// As long as a thread may that cannot be interrupted.
    Brief,
    /// As long as the store was opened with.
    Full,
}

/// Takes appends, and answers them.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) log: Arc<LiveLog>,
    /// Identifies this opening of the store in the frames it writes.
    epoch: u64,
    queue: Mutex<Queue>,
    /// Appends to streams that are reserved, until the reservation ends.
    deferred: Mutex<Deferred>,
    /// Somebody is in the write phase.
    writing: AtomicBool,
    /// How many threads write or sync a group, and will look at the queue again after it.
    committing: AtomicUsize,
    writer: Mutex<Writer>,
    pub(super) syncer: Syncer,
    /// The disk was full when it was last asked for room.
    full: AtomicBool,
    pub(super) chores: Chores,
    pub(super) watcher: Watcher,
}

/// What a session begins to commit with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartingPoint {
    /// Identifies the session in the frames that it writes; drawn anew for each session.
    pub(crate) epoch: u64,
    /// Whether the session may have threads of its own.
    pub(crate) background: bool,
    /// The end of what is durable, at which this session begins.
    pub(crate) durable: Mark,
}

/// What the write lock guards.
#[derive(Debug)]
struct Writer {
    tail: Tail,
    overlay: Overlay,
    last_commit_time: u64,
    clock: CommitClock,
    ends_in_mark: bool,
}

#[derive(Default)]
struct Queue {
    requests: Vec<Request>,
    /// The size of their frames.
    bytes: usize,
    closed: bool,
}

impl Queue {
    fn push(&mut self, request: Request) {
        self.bytes += request.prepared.frame.len();
        self.requests.push(request);
    }

    fn take(&mut self) -> Vec<Request> {
        self.bytes = 0;
        std::mem::take(&mut self.requests)
    }

    fn put_back(&mut self, requests: Vec<Request>) {
        let later = self.take();
        requests
            .into_iter()
            .chain(later)
            .for_each(|request| self.push(request));
    }

    fn holds(&self, bytes: usize) -> bool {
        !self.requests.is_empty() && self.bytes >= bytes
    }
}

#[derive(Default)]
struct Deferred {
    requests: Vec<Request>,
    /// The reservation that they wait for.
    reservation: u64,
    /// When its holder is next looked at, which may have died.
    next_look: u64,
}

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deferred")
            .field("requests", &self.requests.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("requests", &self.requests.len())
            .finish_non_exhaustive()
    }
}

/// Whether an append has to wait for the end of a reservation: it would change a stream that
/// somebody else has reserved.
fn is_excluded(request: &Request, reserved: &Reserved) -> bool {
    let prepared = &request.prepared;
    let is_others = !request.was_deferred && prepared.reservation != reserved.id;
    is_others && (prepared.written().iter()).any(|stream| reserved.has(stream.key))
}

/// The answer to what is done already.
fn nothing() -> Appended {
    Appended {
        first_position: None,
        last_position: None,
        versions: Vec::new(),
        replayed: false,
    }
}

/// A group after its write phase.
struct Group {
    /// Every answer waits until this address is durable.
    judged_against: u64,
    answers: Vec<(Request, Answer)>,
}

impl Committer {
    pub(crate) fn new(log: Arc<LiveLog>, tail: Tail, start: StartingPoint) -> Arc<Self> {
        let StartingPoint {
            epoch,
            background,
            durable,
        } = start;
        let writer = Writer {
            tail: tail.clone(),
            overlay: Overlay::default(),
            last_commit_time: durable.commit_time,
            clock: CommitClock::default(),
            ends_in_mark: durable.is_marked,
        };
        Arc::new(Self {
            epoch,
            queue: Mutex::default(),
            deferred: Mutex::default(),
            writing: AtomicBool::new(false),
            committing: AtomicUsize::new(0),
            writer: Mutex::new(writer),
            syncer: Syncer::new(Arc::clone(&log), tail, durable),
            log,
            full: AtomicBool::new(false),
            chores: Chores::new(background),
            watcher: Watcher::default(),
        })
    }

    /// Queues an append and, when nobody else is writing, commits the queue in this thread.
    pub(crate) fn append(self: &Arc<Self>, request: Request) {
        if self.enqueue(request) {
            self.drive(self.patience());
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
        if !request.prepared.is_mark() {
            self.log.counters.appends.add(1);
        }
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
        queue.push(request);
        true
    }

    /// Commits what is queued, unless somebody else is about to.
    ///
    /// The caller's own thread waits but briefly for another process, and leaves the rest to
    /// the background thread: who called can be interrupted meanwhile.
    pub(super) fn drive(self: &Arc<Self>, patience: Patience) {
        while self.begins_group() {
            let written = catch_unwind(AssertUnwindSafe(|| self.write_group(patience)));
            self.writing.store(false, Ordering::SeqCst);
            let Ok(written) = written else {
                self.committing.fetch_sub(1, Ordering::SeqCst);
                return self.give_up();
            };
            let Some(group) = written else {
                self.committing.fetch_sub(1, Ordering::SeqCst);
                return self.drive_soon();
            };
            self.hand_on(self.worth_writing());
            let durable = self.syncer.until(group.judged_against);
            self.committing.fetch_sub(1, Ordering::SeqCst);
            // Who came meanwhile found this thread committing and went to wait.
            let is_left_over = self.hand_on(0);
            self.answer(group, &durable);
            if !is_left_over {
                return;
            }
        }
    }

    /// Whether this thread is to write a group. If not, whoever commits now will look at the
    /// queue again.
    fn begins_group(&self) -> bool {
        let worth = self.worth_writing();
        if !self.queue.lock().holds(worth) || self.writing.swap(true, Ordering::SeqCst) {
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
        let is_left = self.queue.lock().holds(bytes);
        if is_left && self.chores.has_threads() {
            self.drive_soon();
            return false;
        }
        is_left
    }

    /// After a panic in the write phase.
    fn give_up(&self) {
        self.syncer.follow_no_more();
        self.syncer
            .poison("the committing thread panicked".to_owned());
        self.refuse_queued();
        self.log.deliver(ReadMode::Blocking);
    }

    fn refuse_queued(&self) {
        let deferred = std::mem::take(&mut self.deferred.lock().requests);
        let requests = self.queue.lock().take();
        if let Err(poisoned) = self.log.health() {
            for request in deferred.into_iter().chain(requests) {
                request.answer(Err(poisoned.clone()));
            }
        }
    }

    fn patience(&self) -> Patience {
        if self.chores.has_threads() {
            Patience::Brief
        } else {
            Patience::Full
        }
    }

    /// Judges and writes what is queued, as far as the segment has room; `None` when another
    /// process has not let this one write yet.
    fn write_group(self: &Arc<Self>, patience: Patience) -> Option<Group> {
        match self.enter(patience) {
            Ok(Some((_turn, mut writer))) => Some(self.write_queued(&mut writer)),
            Ok(None) => None,
            Err(e) => Some(self.refuse_all(&e)),
        }
    }

    /// Nothing of the queue is written.
    fn refuse_all(&self, error: &Error) -> Group {
        let requests = self.queue.lock().take();
        let refuse = |request| (request, Answer::Unwritten(Err(error.clone())));
        Group {
            judged_against: 0,
            answers: requests.into_iter().map(refuse).collect(),
        }
    }

    /// Comes to where nobody else writes, knowing all that was written; `None` when that takes
    /// longer than a caller's thread should wait.
    fn enter(&self, patience: Patience) -> Result<Option<(Option<Turn>, MutexGuard<'_, Writer>)>> {
        loop {
            let turn = match self.log.coord.shared() {
                None => None,
                Some(joint) => match self.turn(joint, patience)? {
                    Some(turn) => Some(turn),
                    None => return Ok(None),
                },
            };
            let mut writer = self.writer.lock();
            match (self.log.coord.shared(), &turn) {
                (None, None) => {}
                (Some(joint), Some(_)) => self.take_over(joint, &mut writer)?,
                // Another process was let in just now.
                _ => continue,
            }
            return Ok(Some((turn, writer)));
        }
    }

    fn turn(&self, joint: &Joint, patience: Patience) -> Result<Option<Turn>> {
        let deadline = match patience {
            Patience::Brief => self.log.coord.deadline().min(Instant::now() + BRIEF),
            Patience::Full => self.log.coord.deadline(),
        };
        // A long way to catch up is gone while others may write.
        let caught_up = self.syncer.catch_up(joint, ReadMode::Blocking);
        self.syncer.stopping(caught_up)?;
        let taken = Turn::by(&joint.locks.write, &joint.page, deadline);
        match self.syncer.stopping(taken)? {
            Some(turn) => {
                joint.page.set_writer(joint.entry.number());
                self.log.counters.waits.add(u64::from(turn.waited));
                Ok(Some(turn))
            }
            None if patience == Patience::Brief => Ok(None),
            None => Err(self.log.coord.stalled("its log", joint.page.writer())),
        }
    }

    /// Takes over from whichever process wrote last.
    fn take_over(&self, joint: &Joint, writer: &mut Writer) -> Result<()> {
        self.syncer.stopping(self.log.coord.check_page(joint))?;
        if joint.page.is_poisoned() {
            self.syncer.stop(Error::Poisoned {
                reason: "another process of the store could not sync what it had written"
                    .to_owned(),
            });
        }
        self.log.health()?;
        let Writer { tail, overlay, .. } = writer;
        let learnt = self
            .syncer
            .learn(joint, &mut |frame, entry| overlay.note_frame(frame, entry));
        *tail = self.syncer.stopping(learnt)?;
        let mark = self.syncer.mark();
        writer.last_commit_time = mark.commit_time;
        writer.ends_in_mark = mark.is_marked;
        self.activate(&writer.tail.segment)?;
        self.clean_up(joint, &writer.tail)?;
        let ends = self.check_end(&writer.tail);
        self.syncer.stopping(ends)?;
        let caught_up = self.syncer.catch_up(joint, ReadMode::Blocking);
        self.syncer.stopping(caught_up)
    }

    /// Zeroes what a process has left that died while it wrote, durably: what is written
    /// instead may go into the next segment, and this would come back after a loss of power.
    fn clean_up(&self, joint: &Joint, tail: &Tail) -> Result<()> {
        let dirty = joint.page.dirty();
        if dirty == 0 {
            return Ok(());
        }
        let segment = &tail.segment;
        if dirty > tail.address {
            if dirty > segment.end() {
                let reason = "it names a write beyond the end of a segment";
                return self.syncer.stopping(Err(self.log.coord.detached(reason)));
            }
            let to = segment.offset(dirty).min(segment.measure()?);
            fill_zeros(&segment.file, segment.offset(tail.address), to)
                .map_err(|e| segment.error("zero", &e))?;
            self.syncer.alone(segment)?;
        }
        joint.page.set_dirty(0);
        Ok(())
    }

    /// Refuses to write over a frame: whatever the page says, the log goes on there, or in a
    /// later segment.
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

    fn write_queued(self: &Arc<Self>, writer: &mut MutexGuard<'_, Writer>) -> Group {
        let durable_hint = self.syncer.durable_end();
        writer.overlay.forget_durable(durable_hint);
        let now = self.commit_time(writer);
        let seed = self.log.seed;
        let stamp = Stamp {
            seed,
            durable_hint,
            commit_time: now,
            epoch: self.epoch,
        };
        let mut plan = Plan::new(&writer.tail, stamp);
        let reserved = self.reserved();
        let mut requests = self.queue.lock().take().into_iter();
        while let Some(mut request) = requests.next() {
            if let Some(reserved) = &reserved
                && is_excluded(&request, reserved)
            {
                request.was_deferred = true;
                self.defer(request, reserved);
                continue;
            }
            match self.place(writer, &mut plan, &mut request.prepared) {
                Ok(Some(answer)) => plan.answers.push((request, answer)),
                Ok(None) => {
                    let unplaced = std::iter::once(request).chain(requests.by_ref()).collect();
                    self.queue.lock().put_back(unplaced);
                }
                Err(e) => {
                    let is_busy = matches!(e, Error::StoreBusy { .. });
                    plan.answers
                        .push((request, Answer::Unwritten(Err(e.clone()))));
                    // Each of the others would wait as long for the same process.
                    if is_busy {
                        let refuse = |request| (request, Answer::Unwritten(Err(e.clone())));
                        plan.answers.extend(requests.by_ref().map(refuse));
                    }
                }
            }
        }
        self.write(writer, plan)
    }

    /// Has the appends of others to some streams wait, for at most `time`. The answer is the
    /// reservation's id, `None` if another one is in force.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        streams: impl Iterator<Item = u128>,
        time: Duration,
    ) -> Result<Option<u64>> {
        let layout = &self.log.segments.layout;
        let mut bytes = [0; 8];
        let drawn = layout.vfs.random(&mut bytes);
        drawn.map_err(|e| Error::io(&layout.root, "draw randomness for", &e))?;
        let id = u64::from_le_bytes(bytes).max(1);
        let now = layout.vfs.uptime_micros();
        let time = time.min(LONGEST_RESERVATION);
        let until = now.saturating_add(u64::try_from(time.as_micros()).unwrap_or_default());
        let coord = &self.log.coord;
        let member = coord.joint().map_or(0, |joint| joint.entry.number());
        let new = Reserved::new(id, member, until, streams);
        Ok(coord.reserve(layout, new, now).then_some(id))
    }

    /// Ends a reservation, unless it has ended.
    pub(crate) fn release(self: &Arc<Self>, id: u64) {
        self.log.coord.release(id);
        if !self.deferred.lock().requests.is_empty() {
            self.drive_soon();
        }
    }

    /// The reservation in force that appends have to respect.
    ///
    /// Without threads nobody would take up again what waits; with the store being closed, it
    /// ends.
    fn reserved(&self) -> Option<Reserved> {
        let reserved = self.log.coord.reserved()?;
        let now = self.log.segments.layout.vfs.uptime_micros();
        let counts = reserved.is_in_force(now) && self.chores.has_threads();
        (counts && !self.queue.lock().closed).then_some(reserved)
    }

    fn has_queued(&self) -> bool {
        let is_deferred = !self.deferred.lock().requests.is_empty();
        is_deferred || !self.queue.lock().requests.is_empty()
    }

    fn defer(self: &Arc<Self>, request: Request, reserved: &Reserved) {
        let mut deferred = self.deferred.lock();
        if deferred.reservation != reserved.id {
            deferred.reservation = reserved.id;
            deferred.next_look = 0;
        }
        deferred.requests.push(request);
        drop(deferred);
        self.drive_soon();
    }

    /// After which time the background thread is to look at what is deferred.
    pub(super) fn deferred_for(&self) -> Option<Duration> {
        let is_waiting = !self.deferred.lock().requests.is_empty();
        is_waiting.then_some(DEFERRED_CHECK)
    }

    /// Queues what was deferred, if the reservation has ended that it waits for.
    pub(super) fn restore_deferred(&self) {
        let mut deferred = self.deferred.lock();
        if deferred.requests.is_empty() {
            return;
        }
        let layout = &self.log.segments.layout;
        let now = layout.vfs.uptime_micros();
        if let Some(reserved) = self.reserved()
            && reserved.id == deferred.reservation
        {
            let is_look_due = now >= deferred.next_look;
            if !is_look_due || self.log.coord.is_session_alive(layout, reserved.member) {
                if is_look_due {
                    deferred.next_look = now + HOLDER_CHECK_MICROS;
                }
                return;
            }
            self.log.coord.release(reserved.id);
        }
        let requests = std::mem::take(&mut deferred.requests);
        self.queue.lock().put_back(requests);
    }

    /// The time of the next commit.
    fn commit_time(&self, writer: &mut Writer) -> u64 {
        let vfs = &self.log.segments.layout.vfs;
        let clocks = Clocks {
            wall: vfs.now_micros(),
            since_boot: vfs.since_boot_micros(),
        };
        let page = self.log.coord.joint().map(|joint| &joint.page);
        let shared = page.and_then(Page::clock);
        let timed = writer.clock.stamp(clocks, writer.last_commit_time, shared);
        self.log.local.clock_jumps.add(u64::from(timed.has_jumped));
        if let Some(page) = page.filter(|_| shared != Some(timed.accepted)) {
            page.set_clock(timed.accepted);
        }
        timed.time
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
        if prepared.is_mark() && writer.ends_in_mark && plan.entries.is_empty() {
            // Another process was faster.
            return Ok(Some(Answer::Unwritten(Ok(nothing()))));
        }
        let length = prepared.frame.len() as u64;
        let (verdict, base_versions) = self.judge(writer, plan, prepared);
        Ok(Some(match verdict {
            Verdict::Write => {
                if plan.tail.address + length > plan.tail.segment.end() {
                    if !plan.entries.is_empty() {
                        return Ok(None);
                    }
                    self.roll(writer, length)?;
                    plan.restart(&writer.tail);
                }
                Answer::Written(plan.seal(prepared, &base_versions))
            }
            Verdict::Checked(appended) => Answer::Unwritten(Ok(appended)),
            Verdict::Known(address) => Answer::Known(address),
            Verdict::Replay(appended) => {
                self.log.counters.replays.add(1);
                Answer::Replayed(appended)
            }
            Verdict::Refuse(error) => {
                self.log.counters.conflicts.add(1);
                Answer::Unwritten(Err(error))
            }
        }))
    }

    /// The verdict, and the versions that it was reached at.
    fn judge(&self, writer: &Writer, plan: &Plan, prepared: &Prepared) -> (Verdict, Vec<u64>) {
        let index = self.log.index.read();
        let state = State {
            index: &*index,
            written: &writer.overlay,
            group: &plan.overlay,
        };
        (state.judge(prepared), state.base_versions(prepared))
    }

    /// Goes on in the next segment. The old one is synced first, so that the first frame of
    /// a segment proves that everything before it was durable.
    fn roll(&self, writer: &mut Writer, length: u64) -> Result<()> {
        self.syncer.until(writer.tail.address)?;
        let next = self.prepare_after(&writer.tail.segment, length)?;
        next.activate()?;
        writer.tail.address = next.first_frame();
        writer.tail.segment = next;
        let before = self.syncer.mark();
        let last = (before.end, before.commit_time, before.is_marked);
        self.syncer.publish(&writer.tail, last, None);
        self.log.segments.release_before(&writer.tail.segment);
        Ok(())
    }

    /// Opens the segment that is about to be written to; all before it is durable.
    fn activate(&self, segment: &Segment) -> Result<()> {
        segment.activate()?;
        self.log.segments.release_before(segment);
        Ok(())
    }

    /// The segment after this one.
    pub(super) fn prepare_after(&self, segment: &Segment, length: u64) -> Result<Arc<Segment>> {
        let next = self.log.segments.prepare_after(segment, length);
        next.inspect_err(|e| self.poison_if_unsure(e))
    }

    fn write(self: &Arc<Self>, writer: &mut Writer, mut plan: Plan) -> Group {
        if !plan.entries.is_empty() {
            if let Err(error) = self.make_room(&plan) {
                return self.refuse(plan, &error);
            }
            self.begin_write(&plan);
            if let Err((e, written)) = plan.write() {
                return self.not_written(writer, plan, &e, written);
            }
            let commits = plan.commits;
            let last = (plan.tail.address, plan.commit_time(), plan.ends_in_mark);
            self.syncer
                .publish(&plan.tail, last, plan.entries.drain(..));
            self.end_write();
            writer.overlay.absorb(&mut plan.overlay);
            writer.last_commit_time = plan.commit_time();
            writer.ends_in_mark = plan.ends_in_mark;
            writer.tail = plan.tail;
            // A mark of the engine's own is no commit.
            self.log.counters.write_batches.add(u64::from(commits > 0));
            self.log.counters.commits.add(commits);
            self.log.counters.events.add(plan.events);
            if let Some(joint) = self.log.coord.shared() {
                joint.entry.publish(self.log.counters.read());
            }
            self.maintain_soon();
        }
        let is_awaited = !plan.answers.is_empty();
        Group {
            judged_against: if is_awaited { writer.tail.address } else { 0 },
            answers: plan.answers,
        }
    }

    /// Says where a write will end, to whoever finds it unfinished.
    fn begin_write(&self, plan: &Plan) {
        if let Some(joint) = self.log.coord.shared() {
            joint.page.set_dirty(plan.tail.address);
            self.log.segments.layout.vfs.at("dirty");
        }
    }

    fn end_write(&self) {
        if let Some(joint) = self.log.coord.shared() {
            joint.page.set_dirty(0);
        }
    }

    /// Once the disk was full, no byte of a frame is written where there might be no room.
    fn make_room(&self, plan: &Plan) -> Result<()> {
        let segment = &plan.begin.segment;
        let error = |e: io::Error| segment.error("make room in", &e);
        let end = segment.offset(plan.tail.address);
        if self.log.coord.shared().is_some() && end > segment.filled() && end > segment.measure()? {
            // Another process may be filling the file ahead, over what would be written here.
            let _alone = self.log.coord.maintain()?;
            if end > segment.measure()? {
                segment.fill_room(end).map_err(error)?;
            }
        }
        if !self.full.load(Ordering::Relaxed) {
            return Ok(());
        }
        let _alone = self.log.coord.maintain()?;
        segment.measure()?;
        segment.fill_room(end).map_err(error)?;
        if segment
            .fill_ahead(fill_step(segment.entry.capacity))
            .is_ok()
        {
            self.note_full(false);
        }
        Ok(())
    }

    pub(super) fn note_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Nothing of the group is in the file, nor will be after any crash.
    fn refuse(&self, plan: Plan, error: &Error) -> Group {
        let (answers, others) = plan.refused(error);
        self.queue.lock().put_back(others);
        Group {
            judged_against: 0,
            answers,
        }
    }

    /// Some bytes of a write that failed may be on disk, whole frames among them. They are
    /// zeroed, durably, before anyone is told that nothing was written.
    fn not_written(&self, writer: &Writer, plan: Plan, error: &io::Error, written: usize) -> Group {
        let segment = &writer.tail.segment;
        let refusal = segment.error("write", error);
        self.note_full(matches!(refusal, Error::StorageFull { .. }));
        let written = written as u64;
        let is_counted = is_refusal(error) && plan.is_zero_after(written).unwrap_or(false);
        let touched = if is_counted { written } else { plan.length() };
        if touched == 0 {
            self.end_write();
            return self.refuse(plan, &refusal);
        }
        let undone = plan.unwrite(touched);
        let undone = undone.map_err(|e| segment.error("zero", &e));
        let answer = match undone.and_then(|()| self.syncer.alone(segment)) {
            Ok(()) => {
                self.end_write();
                refusal
            }
            Err(e) => {
                let path = segment.path.display();
                let reason = format!("writing {path} failed ({error}), undoing it too ({e})");
                self.syncer.poison(reason.clone());
                Error::OutcomeUnknown { reason }
            }
        };
        self.refuse(plan, &answer)
    }

    /// Answers a group. No lock is held: a callback may call back.
    fn answer(&self, group: Group, durable: &Result<()>) {
        self.log.deliver(ReadMode::Blocking);
        for (request, answer) in group.answers {
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

    /// The end of the log when it is durable to there and needs a mark to say so.
    pub(super) fn unmarked_end(&self) -> Option<u64> {
        let writer = self.writer.lock();
        let end = self.syncer.durable_end();
        (!writer.ends_in_mark && end == writer.tail.address).then_some(end)
    }

    /// Whether the log ends in a mark that covers all before it.
    pub(super) fn is_marked(&self) -> bool {
        let writer = self.writer.lock();
        // Where another process has gone on, the end is its to mark.
        writer.ends_in_mark || self.syncer.mark().address > writer.tail.address
    }

    /// Makes zeros that were written ahead durable.
    pub(super) fn sync_ahead(&self, segment: &Segment) -> Result<()> {
        segment.sync_ahead().map_err(|e| {
            let error = segment.error("sync", &e);
            self.syncer.poison(error.to_string());
            error
        })
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

    pub(super) fn published(&self) -> Tail {
        self.syncer.published()
    }

    /// Records in the manifest how far the log is durable.
    pub(crate) fn record_durable(&self, (end, chain): (u64, u64)) -> Result<()> {
        let recorded = self.log.segments.record_durable(end, chain);
        recorded.inspect_err(|e| self.poison_if_unsure(e))
    }

    /// A directory that could not be synced poisons: what it names may be gone after a loss
    /// of power.
    fn poison_if_unsure(&self, error: &Error) {
        if self.log.segments.layout.is_unsure() {
            self.syncer.poison(error.to_string());
        }
    }

    /// Has this handle write nothing more to the directory, whatever its threads still do.
    pub(crate) fn end(&self) {
        self.syncer.end();
    }

    /// Shows what other processes have made durable.
    pub(crate) fn catch_up(&self, mode: ReadMode) -> Result<()> {
        let Some(joint) = self.log.coord.shared() else {
            return Ok(());
        };
        let caught_up = self.syncer.catch_up(joint, mode);
        self.syncer.stopping(caught_up)
    }

    /// Lets other processes in, which have knocked.
    pub(crate) fn share(&self) -> Result<()> {
        let coord = &self.log.coord;
        let _writer = self.writer.lock();
        let _alone = coord.maintain()?;
        let generation = self.log.segments.generation();
        let publish = |page: &Page| {
            // What was written is made durable first, so that one place in the log says both.
            self.syncer.sync_for_threads();
            // What is written may be lost by now, and is not to be called durable.
            if self.log.is_stopped() {
                return;
            }
            let mark = self.syncer.mark();
            page.publish_tail(&mark);
            page.publish_durable(&mark);
            page.set_generation(generation);
            if let Some(joint) = coord.joint() {
                joint.entry.publish(self.log.counters.read());
            }
        };
        let is_stopped = || self.log.is_stopped();
        let share = || {
            if let Err(lost) = coord.share(publish, is_stopped) {
                self.syncer.stop(lost);
            }
        };
        let led = self.syncer.lead_unless(|| coord.shared().is_some(), share);
        // A store that has stopped writing lets them in as far as to be told.
        if led.is_err() && coord.shared().is_none() {
            return coord.share(Page::poison, is_stopped);
        }
        Ok(())
    }

    /// The end of the log that all processes have made durable, for the last who leaves.
    pub(crate) fn end_of_all(&self, joint: &Joint) -> Option<(u64, u64)> {
        let (tail, durable) = (joint.page.tail()?, joint.page.durable()?);
        (tail == durable && !joint.page.is_poisoned() && !self.log.is_stopped())
            .then_some((durable.end, durable.chain))
    }

    /// Refuses further appends, finishes those queued, and makes all durable. Answers the
    /// end of the last frame and its chain, unless the store is poisoned.
    pub(crate) fn close(self: &Arc<Self>) -> Result<(u64, u64)> {
        self.queue.lock().closed = true;
        let (end, chain) = loop {
            while self.has_queued() {
                self.restore_deferred();
                self.drive(Patience::Full);
                std::thread::yield_now();
            }
            // Held so that nobody is in a write phase, who might put requests back.
            let writer = self.writer.lock();
            if !self.has_queued() {
                break (writer.tail.address, writer.tail.chain);
            }
        };
        self.chores.begin_stop();
        self.rouse_watcher();
        self.chores.stop();
        self.log.watch.end();
        let durable = self.syncer.until(end);
        self.log.deliver(ReadMode::Blocking);
        durable.and_then(|()| self.log.health())?;
        Ok((self.syncer.durable_end(), chain))
    }
}

impl LogEnd for Committer {
    fn durable_end(&self) -> u64 {
        self.syncer.durable_end()
    }

    /// The first byte beyond the log, and beyond what is being written to it, that isn't
    /// zero. Of a poisoned store nothing is said: a failed write may not have been undone.
    fn stray_byte(&self) -> Result<Option<(Arc<Segment>, u64)>> {
        // Who only looks can't clean up after a process that died while it wrote.
        let is_silent = self.log.is_stopped()
            || self.log.coord.shared().is_some() && self.log.segments.is_read_only();
        if is_silent || self.stray_beyond(&self.published())?.is_none() {
            return Ok(None);
        }
        // Written meanwhile, most likely. Nobody writes while these locks are held.
        let Some((_turn, writer)) = self.enter(Patience::Full)? else {
            return Ok(None);
        };
        let stray = self.stray_beyond(&writer.tail)?;
        Ok(stray.filter(|_| !self.log.is_stopped()))
    }
}
