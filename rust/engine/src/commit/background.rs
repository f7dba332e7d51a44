//! The two background threads: one commits, one looks after the files.
//!
//! They start with the first append that needs them, so that a store which is only read, or
//! opened by the thousand in tests, has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lock::{Condvar, Mutex};

use super::Tail;
use super::committer::{Committer, Patience};
use super::prepare::Prepared;
use super::request::Request;
use crate::append::Appended;
use crate::error::{Error, Result};
use crate::log::{Segment, fill_step};

/// The last frame's durable hint is brought up to date when the log has rested this long.
const REST: Duration = Duration::from_millis(50);

/// How soon a thread is tried again that the system had no room for.
const RETRY: Duration = Duration::from_secs(1);

/// What the background threads are asked to do.
#[derive(Debug)]
pub(super) struct Chores {
    /// Whether there may be threads at all.
    background: bool,
    /// Whether the system refused a thread: all is done in the callers' threads until it has
    /// one.
    refused: AtomicBool,
    started: AtomicBool,
    starting: Mutex<Starting>,
    drive: Bell,
    maintain: Bell,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stopping: AtomicBool,
}

/// The threads that run, and when one was last refused.
#[derive(Debug, Default)]
struct Starting {
    commits: bool,
    maintains: bool,
    refused_at: Option<Instant>,
}

impl Chores {
    pub(super) fn new(background: bool) -> Self {
        Self {
            background,
            refused: AtomicBool::new(false),
            started: AtomicBool::new(false),
            starting: Mutex::default(),
            drive: Bell::default(),
            maintain: Bell::default(),
            threads: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Tells the threads that wait outside of here, too, once they wake.
    pub(super) fn begin_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) fn may_have_threads(&self) -> bool {
        self.background
    }

    pub(super) fn has_threads(&self) -> bool {
        self.background && !self.refused.load(Ordering::SeqCst)
    }

    /// Ends the threads. After it none of them touches a file; a thread that closes the
    /// store itself, from a callback, is the only one that still runs.
    pub(super) fn stop(&self) {
        self.drive.stop();
        self.maintain.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        let others = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        for thread in threads.into_iter().filter(others) {
            // A thread that panicked has ended as well.
            let _ended = thread.join();
        }
    }
}

/// Wakes one thread; rings that come while it works are one ring.
#[derive(Debug, Default)]
struct Bell {
    state: Mutex<BellState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    rung: bool,
    stopped: bool,
}

impl Bell {
    fn ring(&self) {
        if !std::mem::replace(&mut self.state.lock().rung, true) {
            self.changed.notify_one();
        }
    }

    fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Waits for a ring and takes it, or for a time; `false` when the store closes.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.state.lock();
        while !state.rung && !state.stopped {
            let Some(deadline) = deadline else {
                self.changed.wait(&mut state);
                continue;
            };
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.rung = false;
        !state.stopped
    }

    /// Rests, whoever rings; `false` when the store closes meanwhile.
    fn rest(&self) -> bool {
        let deadline = Instant::now() + REST;
        let mut state = self.state.lock();
        while !state.stopped {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        !state.stopped
    }
}

impl Committer {
    /// Has the background thread commit what is queued.
    pub(super) fn drive_soon(self: &Arc<Self>) {
        self.start_threads();
        if self.chores.has_threads() {
            self.chores.drive.ring();
        } else {
            self.restore_deferred();
            self.drive(Patience::Full);
        }
    }

    /// Has the background thread look after the files.
    pub(super) fn maintain_soon(self: &Arc<Self>) {
        self.start_threads();
        self.chores.maintain.ring();
    }

    /// Starts the threads, those that the system refused before included. Until it has room
    /// for them all is done in the callers' threads.
    fn start_threads(self: &Arc<Self>) {
        let chores = &self.chores;
        if !chores.background || chores.started.load(Ordering::SeqCst) {
            return;
        }
        let mut starting = chores.starting.lock();
        let is_recent = |at: Instant| at.elapsed() < RETRY;
        if chores.is_stopping() || starting.refused_at.is_some_and(is_recent) {
            return;
        }
        if !starting.commits {
            let commit = Arc::clone(self);
            starting.commits = self.spawn("braid-commit", move || commit.commit_in_background());
        }
        if !starting.maintains {
            let maintain = Arc::clone(self);
            starting.maintains =
                self.spawn("braid-maintain", move || maintain.maintain_in_background());
        }
        let are_running = starting.commits && starting.maintains;
        starting.refused_at = (!are_running).then(Instant::now);
        chores.refused.store(!are_running, Ordering::SeqCst);
        chores.started.store(are_running, Ordering::SeqCst);
    }

    /// Starts a thread; answers whether the system had room for it.
    pub(super) fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> bool {
        match std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
        {
            Ok(thread) => {
                self.chores.threads.lock().push(thread);
                true
            }
            Err(_) => false,
        }
    }

    fn commit_in_background(self: Arc<Self>) {
        while self.chores.drive.wait(self.deferred_for()) {
            self.restore_deferred();
            self.drive(Patience::Full);
        }
    }

    fn maintain_in_background(self: Arc<Self>) {
        while self.chores.maintain.wait(None) {
            // What can't be done ahead is done, and its failure told, by the append that
            // needs it.
            let _done_ahead = self.prepare_room();
            self.mark_when_resting();
        }
    }

    /// Keeps zeros ahead of the tail, and the next segment ready before this one is full.
    fn prepare_room(&self) -> Result<()> {
        let segments = &self.log.segments;
        let Tail {
            segment, address, ..
        } = self.published();
        let used = segment.offset(address);
        let step = fill_step(segment.entry.capacity);
        while segments.zero_fill() && segment.filled() < used + 4 * step {
            let filled = self.fill_ahead(&segment, step);
            self.note_full(matches!(filled, Err(Error::StorageFull { .. })));
            if !filled? {
                break;
            }
            // Between processes only who holds the sync lock may hear of a failed write: the zeros
            // go to the disk with the next group.
            if self.log.coord.shared().is_none() {
                self.sync_ahead(&segment)?;
            }
        }
        if used > segment.entry.capacity / 2 {
            self.prepare_after(&segment, 0)?;
        }
        segments.keep_ballast();
        Ok(())
    }

    fn fill_ahead(&self, segment: &Segment, step: u64) -> Result<bool> {
        let _alone = self.log.coord.maintain()?;
        if self.log.coord.shared().is_some() {
            segment.measure()?;
        }
        segment
            .fill_ahead(step)
            .map_err(|e| segment.error("zero-fill", &e))
    }

    /// A resting log ends in a mark whose durable hint covers every commit before it.
    fn mark_when_resting(self: &Arc<Self>) {
        let mut before = None;
        while !self.is_marked() && self.log.health().is_ok() && self.chores.maintain.rest() {
            let now = self.unmarked_end();
            if now.is_some() && now == before {
                let answered = Box::new(|_: Result<Appended>| ());
                self.append(Request::new(Prepared::mark(), answered));
            }
            if self.prepare_room().is_err() {
                return;
            }
            before = now;
        }
    }
}
