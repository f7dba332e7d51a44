//! The two background threads: one commits, one looks after the files.
//!
//! They start with the first append that needs them, so that a store which is only read, or
//! opened by the thousand in tests, has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lock::{Condvar, Mutex};

/// How long the log must have rested before its end is marked.
const REST: Duration = Duration::from_millis(50);

/// The interval at which a thread is started again that the system had no room for.
const RETRY: Duration = Duration::from_secs(1);

/// What the background threads do.
pub(super) trait Work: Send + Sync + 'static {
    fn tasks(&self) -> &BackgroundTasks;

    /// Commits what is queued.
    fn commit(self: &Arc<Self>);

    /// After which time [`Work::commit`] is to be called without a request.
    fn commit_interval(&self) -> Option<Duration>;

    /// Looks after the files.
    fn maintain(self: &Arc<Self>);
}

/// The threads of a session, and the requests that wake them.
#[derive(Debug)]
pub(super) struct BackgroundTasks {
    /// Whether the session may have threads at all.
    background: bool,
    /// Whether the system refused a thread: all is done in the callers' threads until it has
    /// room for one.
    refused: AtomicBool,
    started: AtomicBool,
    starting: Mutex<Starting>,
    commit: Signal,
    maintain: Signal,
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

impl BackgroundTasks {
    pub(super) fn new(background: bool) -> Self {
        Self {
            background,
            refused: AtomicBool::new(false),
            started: AtomicBool::new(false),
            starting: Mutex::default(),
            commit: Signal::default(),
            maintain: Signal::default(),
            threads: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Has the background thread commit what is queued; `false` where there is none, so that
    /// the caller has to do it.
    pub(super) fn request_commit(&self, work: &Arc<impl Work>) -> bool {
        self.start(work);
        if !self.has_threads() {
            return false;
        }
        self.commit.send();
        true
    }

    /// Has the background thread look after the files.
    pub(super) fn request_maintenance(&self, work: &Arc<impl Work>) {
        self.start(work);
        self.maintain.send();
    }

    /// Starts the threads, also those that the system refused before. Until it has room for
    /// them all is done in the callers' threads.
    fn start(&self, work: &Arc<impl Work>) {
        if !self.background || self.started.load(Ordering::SeqCst) {
            return;
        }
        let mut starting = self.starting.lock();
        let is_recent = |at: Instant| at.elapsed() < RETRY;
        if self.is_stopping() || starting.refused_at.is_some_and(is_recent) {
            return;
        }
        if !starting.commits {
            let work = Arc::clone(work);
            starting.commits = self.spawn("braid-commit", move || commit_until_stopped(&work));
        }
        if !starting.maintains {
            let work = Arc::clone(work);
            starting.maintains =
                self.spawn("braid-maintain", move || maintain_until_stopped(&work));
        }
        let are_running = starting.commits && starting.maintains;
        starting.refused_at = (!are_running).then(Instant::now);
        self.refused.store(!are_running, Ordering::SeqCst);
        self.started.store(are_running, Ordering::SeqCst);
    }

    /// Starts a thread; returns whether the system had room for it.
    pub(super) fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> bool {
        match std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
        {
            Ok(thread) => {
                self.threads.lock().push(thread);
                true
            }
            Err(_) => false,
        }
    }

    /// Announces the stop, also to the threads that wait elsewhere, once they wake.
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

    /// Waits until the log has rested for a while; `false` when the store closes meanwhile.
    pub(super) fn rest(&self) -> bool {
        self.maintain.rest()
    }

    /// Ends the threads. Afterwards none of them touches a file; a thread that closes the store
    /// itself, from a callback, is the only one that still runs.
    pub(super) fn stop(&self) {
        self.commit.stop();
        self.maintain.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        let others = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        for thread in threads.into_iter().filter(others) {
            // A thread that panicked has ended as well.
            let _ended = thread.join();
        }
    }
}

fn commit_until_stopped(work: &Arc<impl Work>) {
    while work.tasks().commit.wait(work.commit_interval()) {
        work.commit();
    }
}

fn maintain_until_stopped(work: &Arc<impl Work>) {
    while work.tasks().maintain.wait(None) {
        work.maintain();
    }
}

/// Wakes one thread. Signals that are sent while the thread works count as one.
#[derive(Debug, Default)]
struct Signal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SignalState {
    sent: bool,
    stopped: bool,
}

impl Signal {
    fn send(&self) {
        if !std::mem::replace(&mut self.state.lock().sent, true) {
            self.changed.notify_one();
        }
    }

    fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Waits for a signal and takes it, or for a time; `false` when the store closes.
    fn wait(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.state.lock();
        while !state.sent && !state.stopped {
            let Some(deadline) = deadline else {
                self.changed.wait(&mut state);
                continue;
            };
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.sent = false;
        !state.stopped
    }

    /// Waits, whatever is sent; `false` when the store closes meanwhile.
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
