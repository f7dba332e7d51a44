//! The two background threads: one commits, the other maintains the files.
//!
//! The first append that needs one of the threads starts both. A store that is only read has no
//! background thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::mutex::{Condvar, Mutex};

/// Minimum time between a failed start of a thread and the next attempt to start it.
const SPAWN_RETRY: Duration = Duration::from_secs(1);

/// The work of the background threads.
pub(super) trait Work: Send + Sync + 'static {
    fn tasks(&self) -> &BackgroundTasks;

    /// Commit the queued appends.
    fn commit(self: &Arc<Self>);

    /// Return the interval at which [`Work::commit`] is called even without a request, if there is
    /// one.
    fn commit_interval(&self) -> Option<Duration>;

    /// Maintain the files: preallocate space and write the sync marker of an idle log.
    fn maintain(self: &Arc<Self>);
}

/// The threads of a session, and the requests that wake them.
#[derive(Debug)]
pub(super) struct BackgroundTasks {
    /// Whether the session may start threads.
    background: bool,
    /// Whether the system has refused to start a thread. Until a later attempt succeeds, the
    /// callers' threads do the work of the background threads.
    refused: AtomicBool,
    /// Whether both threads are running. A request reads this flag before it acquires the lock of
    /// `starting`. If the value is out of date, the request acquires the lock and finds both
    /// threads running.
    started: AtomicBool,
    starting: Mutex<Starting>,
    commit: Signal,
    maintain: Signal,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Whether the session is closing its threads. Never reset.
    stopping: AtomicBool,
}

/// Which threads are running, and when the system last refused to start one. Locked during a start,
/// so that no thread is started twice.
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

    /// Request a commit from the background thread. Return `false` if that thread can't be used;
    /// the caller then has to commit.
    pub(super) fn request_commit(&self, work: &Arc<impl Work>) -> bool {
        self.start(work);
        if !self.has_threads() {
            return false;
        }
        self.commit.send();
        true
    }

    /// Request maintenance from the background thread.
    pub(super) fn request_maintenance(&self, work: &Arc<impl Work>) {
        self.start(work);
        self.maintain.send();
    }

    /// Start the threads that are not running. Do nothing if the last attempt failed less than
    /// [`SPAWN_RETRY`] ago.
    fn start(&self, work: &Arc<impl Work>) {
        if !self.background || self.started.load(Ordering::SeqCst) {
            return;
        }
        let mut starting = self.starting.lock();
        let is_recent = |at: Instant| at.elapsed() < SPAWN_RETRY;
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

    /// Start a thread. Return `false` if the system refuses to start it.
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

    /// Announce that the threads are about to be stopped. The listener does not wait for a
    /// [`Signal`], so it checks [`Self::is_stopping`] whenever it wakes.
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

    /// Let the maintenance thread wait for `time`. Return `false` if the store closes during the
    /// wait.
    pub(super) fn pause(&self, time: Duration) -> bool {
        self.maintain.pause(time)
    }

    /// Stop the threads and wait for their end. Afterwards none of them uses a file. There is one
    /// exception: if a callback closes the store, the thread that runs the callback can't wait for
    /// its own end.
    pub(super) fn stop(&self) {
        self.commit.stop();
        self.maintain.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        let others = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        for thread in threads.into_iter().filter(others) {
            // A thread that panicked has ended too.
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

    /// Wait for a signal, at most for the timeout. Return `false` if the store closes.
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

    /// Wait for `time`; signals do not shorten the wait. Return `false` if the store closes during
    /// the wait.
    fn pause(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.stopped {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        !state.stopped
    }
}
