//! The thread that listens to other sessions: one for each session, whatever it waits for.
//!
//! While the session has the store for itself, the thread sleeps until another one sends a join
//! request. While the store is shared and this session has waiters for events, it sleeps until
//! more is durable; without waiters the commits of other sessions don't wake it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::background::BackgroundTasks;
use super::poison::Poison;
use super::shared_writer::SharedWriter;
use crate::coord::SharedSession;
use crate::error::{Error, Result};
use crate::live::LiveLog;
use crate::lock::Mutex;
use crate::options::ReadMode;

/// How long it sleeps at most: a wake-up may be lost with a process that died before it.
const NAP: Duration = Duration::from_millis(500);

/// How long it listens after the last waiter.
const ATTENTION: Duration = Duration::from_secs(1);

/// Listens to the other sessions.
#[derive(Debug)]
pub(super) struct Watcher {
    log: Arc<LiveLog>,
    writer: Arc<SharedWriter>,
    poison: Arc<Poison>,
    tasks: Arc<BackgroundTasks>,
    /// Whether the thread runs.
    runs: Mutex<bool>,
    /// Whether it listens to the commits of others. Sequentially consistent, against a waiter
    /// that is counted and then looks at this flag: one of the two sees the other.
    listens: AtomicBool,
}

impl Watcher {
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
            runs: Mutex::default(),
            listens: AtomicBool::new(false),
        })
    }

    /// Starts to listen to other sessions. Where the system has no room for a thread the store is
    /// shared from now on, because no thread would receive their join requests; waits for events
    /// try to start the thread again.
    pub(super) fn start(self: &Arc<Self>) -> Result<()> {
        if self.ensure_thread() || self.log.coord.shared().is_some() {
            return Ok(());
        }
        self.writer.share()
    }

    /// Whether the thread runs by now.
    fn ensure_thread(self: &Arc<Self>) -> bool {
        let mut runs = self.runs.lock();
        if !*runs && self.tasks.may_have_threads() && !self.tasks.is_stopping() {
            let watching = Arc::clone(self);
            *runs = self.tasks.spawn("braid-watch", move || watching.watch());
        }
        *runs
    }

    /// Makes sure that waiters learn of other sessions' commits. The caller has been counted by
    /// the watch before: the watcher checks that count before it stops listening.
    pub(super) fn attend(self: &Arc<Self>) {
        if self.log.coord.session().is_some() {
            self.ensure_thread();
        }
        if let Some(session) = self.log.coord.shared()
            && !self.listens.swap(true, Ordering::SeqCst)
        {
            session.page.request_join();
        }
    }

    /// Wakes the thread, whichever word it waits for.
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
        let mut attentive_since = Instant::now();
        let mut checked = Instant::now();
        loop {
            let (join_requests, notifications) =
                (session.page.join_requests(), session.page.notifications());
            // Checked after the numbers are read: a stop is announced first and then changes them.
            if self.tasks.is_stopping() {
                return;
            }
            if self.log.coord.shared().is_none() {
                if join_requests > 0 && self.writer.share().is_ok() {
                    continue;
                }
                session.page.wait_for_join_request(join_requests, NAP);
                continue;
            }
            self.notice(session);
            if checked.elapsed() >= NAP {
                checked = Instant::now();
                self.check_in_place(session);
            }
            if self.log.watch.is_awaited() {
                attentive_since = Instant::now();
            }
            if self.listens.load(Ordering::SeqCst) && attentive_since.elapsed() < ATTENTION {
                session.page.wait_for_notification(notifications, NAP);
            } else {
                self.listens.store(false, Ordering::SeqCst);
                // A waiter that found it listening was counted before; one that is counted later
                // sends a request.
                if self.log.watch.is_awaited() {
                    self.listens.store(true, Ordering::SeqCst);
                    attentive_since = Instant::now();
                    continue;
                }
                session.page.wait_for_join_request(join_requests, NAP);
                attentive_since = Instant::now();
            }
        }
    }

    /// Stops the session, and its waits, if the files of the coordination are gone. A writer finds
    /// that out by itself. A session that only follows would wait for commits that no other
    /// session reports to it any more.
    fn check_in_place(&self, session: &SharedSession) {
        if !self.log.is_stopped() {
            // If the path can't be looked up, a writer gets the error.
            let _in_place = self.poison.stopping(self.log.coord.check_in_place(session));
        }
    }

    /// Makes visible what has become durable, or stops if the store has stopped.
    fn notice(&self, session: &SharedSession) {
        if !session.page.names_us() && !self.log.is_stopped() {
            let _condemned = self.poison.stopping(self.log.coord.check_page(session));
        }
        if session.page.is_poisoned() && !self.log.is_stopped() {
            self.poison.stop(Error::Poisoned {
                reason: "another process of the store could not sync what it had written"
                    .to_owned(),
            });
        }
        if self.listens.load(Ordering::SeqCst) {
            // A read or an append that meets the same failure reports it.
            let _caught_up = self.poison.catch_up(session, ReadMode::Blocking);
        }
        self.log.deliver(ReadMode::Blocking);
    }
}
