//! The two background threads: one commits, one looks after the files.
//!
//! They start with the first append that needs them, so that a store which is only read, or
//! opened by the thousand in tests, has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Tail;
use super::committer::Committer;
use super::prepare::Prepared;
use super::request::Request;
use crate::log::fill_step;

/// The last frame's durable hint is brought up to date when the log has rested this long.
const REST: Duration = Duration::from_millis(50);

/// What the background threads are asked to do.
#[derive(Debug)]
pub(super) struct Chores {
    pub(super) background: bool,
    started: AtomicBool,
    drive: Bell,
    maintain: Bell,
}

impl Chores {
    pub(super) fn new(background: bool) -> Self {
        let (drive, maintain) = (Bell::default(), Bell::default());
        Self {
            background,
            started: AtomicBool::new(false),
            drive,
            maintain,
        }
    }

    pub(super) fn stop(&self) {
        self.drive.stop();
        self.maintain.stop();
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

    /// Waits for a ring and takes it; `false` when the store closes.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.rung && !state.stopped {
            self.changed.wait(&mut state);
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
        if !self.chores.background {
            return self.drive();
        }
        self.start_threads();
        self.chores.drive.ring();
    }

    /// Has the background thread look after the files.
    pub(super) fn maintain_soon(self: &Arc<Self>) {
        if self.chores.background {
            self.start_threads();
            self.chores.maintain.ring();
        }
    }

    fn start_threads(self: &Arc<Self>) {
        if self.chores.started.load(Ordering::Relaxed)
            || self.chores.started.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let own = Arc::clone(self);
        self.spawn("braid-commit", move || own.commit_in_background());
        let own = Arc::clone(self);
        self.spawn("braid-maintain", move || own.maintain_in_background());
    }

    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) {
        if let Err(e) = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
        {
            self.log
                .poison(format!("could not start the thread {name}: {e}"));
        }
    }

    fn commit_in_background(self: Arc<Self>) {
        while self.chores.drive.wait() {
            self.drive();
        }
    }

    fn maintain_in_background(self: Arc<Self>) {
        while self.chores.maintain.wait() {
            // What can't be done ahead is done, and its failure told, by the append that
            // needs it.
            let _done_ahead = self.prepare_room();
            self.mark_when_resting();
        }
    }

    /// Keeps zeros ahead of the tail, and the next segment ready before this one is full.
    fn prepare_room(&self) -> crate::error::Result<()> {
        let segments = &self.log.segments;
        let Tail {
            segment, address, ..
        } = self.published();
        let used = segment.offset(address);
        let step = fill_step(segment.entry.capacity);
        while segments.zero_fill() && segment.filled() < used + 2 * step {
            let filled = segment.fill_ahead(step);
            if !filled.map_err(|e| segment.error("zero-fill", &e))? {
                break;
            }
        }
        if used > segment.entry.capacity / 2 {
            segments.prepare_after(&segment, 0)?;
        }
        Ok(())
    }

    /// A resting log ends in a mark whose durable hint covers every commit before it.
    fn mark_when_resting(self: &Arc<Self>) {
        let mut before = self.resting();
        while before.1 && self.chores.maintain.rest() {
            let now = self.resting();
            if now == before {
                let answered = Box::new(|_: crate::error::Result<_>| ());
                self.append(Request::new(Prepared::mark(), answered));
                return;
            }
            if self.prepare_room().is_err() {
                return;
            }
            before = now;
        }
    }
}
