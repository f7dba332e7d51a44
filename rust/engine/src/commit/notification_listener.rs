//! The thread that follows other sessions: one thread per session.
//!
//! While the session has the store to itself, the thread sleeps until another session sends a join
//! request. While the store is shared and this session has waiters for events, the thread sleeps
//! until more frames are durable. Without waiters, the commits of other sessions do not wake the
//! thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::background_tasks::BackgroundTasks;
use super::poison::Poison;
use super::shared_writer::SharedWriter;
use crate::coord::{Phase, SharedSession};
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::mutex::Mutex;
use crate::options::ReadMode;

/// Maximum time that the thread sleeps. A session that dies before it sends a notification does not
/// wake the thread, so the thread also checks the state at this interval.
const MAX_SLEEP: Duration = Duration::from_millis(500);

/// Time for which the thread continues to follow commits after the last waiter has gone.
const LISTEN_TIME: Duration = Duration::from_secs(1);

/// Follows the join requests and commits of other sessions.
#[derive(Debug)]
pub(super) struct NotificationListener {
    log: Arc<LiveLog>,
    writer: Arc<SharedWriter>,
    poison: Arc<Poison>,
    tasks: Arc<BackgroundTasks>,
    /// Whether the thread is running. Locked during the start, so that the thread is started only
    /// once.
    is_running: Mutex<bool>,
    /// Whether the thread follows the commits of other sessions. Sequentially consistent: a waiter
    /// is counted before it reads this flag, and the thread resets this flag before it reads the
    /// count. So either the waiter sees the reset flag, or the thread sees the waiter. With a
    /// weaker ordering both could miss the change, and the waiter could sleep until `MAX_SLEEP` is
    /// over.
    listens: AtomicBool,
}

impl NotificationListener {
    pub(super) fn new(
        log: Arc<LiveLog>,
        writer: Arc<SharedWriter>,
        poison: Arc<Poison>,
        tasks: Arc<BackgroundTasks>,
    ) -> Arc<Self> {
        Arc::new(Self {
            log,
            writer,
            poison,
            tasks,
            is_running: Mutex::default(),
            listens: AtomicBool::new(false),
        })
    }

    /// Start to follow other sessions. If the system refuses to start the thread, share the store
    /// at once, because no thread would receive join requests. Each later wait for events tries to
    /// start the thread again.
    pub(super) fn start(self: &Arc<Self>) -> Result<()> {
        if self.ensure_thread() || self.log.coord.shared().is_some() {
            return Ok(());
        }
        self.writer.share()
    }

    /// Start the thread unless it is running. Return whether the thread is running afterwards.
    fn ensure_thread(self: &Arc<Self>) -> bool {
        let mut is_running = self.is_running.lock();
        if !*is_running && self.tasks.may_have_threads() && !self.tasks.is_stopping() {
            let watching = Arc::clone(self);
            *is_running = self.tasks.spawn("braid-watch", move || watching.watch());
        }
        *is_running
    }

    /// Ensure that waiters are notified of other sessions' commits. The caller has already been
    /// counted as a waiter: the thread checks that count before it stops following commits.
    pub(super) fn listen(self: &Arc<Self>) {
        if self.log.coord.session().is_some() {
            self.ensure_thread();
        }
        if let Some(session) = self.log.coord.shared()
            && !self.listens.swap(true, Ordering::SeqCst)
        {
            // While the thread does not listen, it waits for join requests, so a join request wakes
            // it.
            session.page.request_join();
        }
    }

    /// Wake the thread, whether it waits for a join request or for a notification.
    pub(super) fn wake(&self) {
        if let Some(session) = self.log.coord.session() {
            session.page.request_join();
            session.page.notify();
        }
    }

    fn watch(&self) {
        let Some(session) = self.log.coord.session() else {
            return;
        };
        let mut last_awaited = Instant::now();
        let mut last_check = Instant::now();
        loop {
            let (join_requests, notifications) =
                (session.page.join_requests(), session.page.notifications());
            // Check for a stop after the counters are read. A stop is announced before the counters
            // are incremented, so a stop that this check misses ends the wait below at once.
            if self.tasks.is_stopping() {
                return;
            }
            if self.log.coord.shared().is_none() {
                if join_requests > 0 && self.writer.share().is_ok() {
                    continue;
                }
                self.check_joinable(session);
                session.page.wait_for_join_request(join_requests, MAX_SLEEP);
                continue;
            }
            self.follow_commits(session);
            if last_check.elapsed() >= MAX_SLEEP {
                last_check = Instant::now();
                self.check_in_place(session);
            }
            if self.log.watch.is_awaited() {
                last_awaited = Instant::now();
            }
            if self.listens.load(Ordering::SeqCst) && last_awaited.elapsed() < LISTEN_TIME {
                session.page.wait_for_notification(notifications, MAX_SLEEP);
            } else {
                self.listens.store(false, Ordering::SeqCst);
                // A waiter that saw the flag set was counted before the reset, so this check sees
                // it. A later waiter sees the reset flag, and sends a join request to wake the
                // thread.
                if self.log.watch.is_awaited() {
                    self.listens.store(true, Ordering::SeqCst);
                    last_awaited = Instant::now();
                    continue;
                }
                session.page.wait_for_join_request(join_requests, MAX_SLEEP);
                last_awaited = Instant::now();
            }
        }
    }

    /// Stop the session and end its waits if the shared page or a lock file was deleted or
    /// replaced. A session that writes detects this at its next write. A session that only follows
    /// would wait forever, because the notifications of other sessions can't reach it.
    fn check_in_place(&self, session: &SharedSession) {
        if !self.log.is_stopped() {
            // Ignore the error of a path that can't be looked up: the next write reports it.
            let _in_place = self
                .poison
                .stop_if_detached(self.log.coord.check_in_place(session));
        }
    }

    /// Stop the session, which holds the store alone, if the page was overwritten so that no join
    /// request can arrive. Otherwise other sessions would be shut out until this one ends. Only
    /// this thread or a thread that found it missing shares the store, so the phase doesn't change
    /// meanwhile unless the store has become shared.
    fn check_joinable(&self, session: &SharedSession) {
        let coord = &self.log.coord;
        let valid = coord.check_joinable(session, Phase::Sole);
        if coord.shared().is_none() && !self.log.is_stopped() {
            let _joinable = self.poison.stop_if_detached(valid);
        }
    }

    /// Make visible the frames that have become durable. Stop this session if another session has
    /// stopped the store.
    fn follow_commits(&self, session: &SharedSession) {
        if !session.page.has_our_session() && !self.log.is_stopped() {
            let _stopped = self
                .poison
                .stop_if_detached(self.log.coord.check_page(session));
        }
        if session.page.is_poisoned() && !self.log.is_stopped() {
            self.poison.stop(Error::Poisoned {
                reason: "a sync by another process failed".to_owned(),
            });
        }
        if self.listens.load(Ordering::SeqCst) {
            // Ignore an error: the next read or append fails with the same error and reports it.
            let _caught_up = self.poison.catch_up(session, ReadMode::Blocking);
        }
        self.log.deliver(ReadMode::Blocking);
    }
}
