//! The thread that hears of other processes: one a process, whatever it waits for.
//!
//! While the store is this process's alone, it sleeps until somebody knocks. While it is
//! shared and someone here waits for events, it sleeps until more is durable; while nobody
//! waits, the other processes' commits don't wake it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::committer::Committer;
use crate::coord::Joint;
use crate::error::{Error, Result};
use crate::lock::Mutex;
use crate::options::ReadMode;

/// How long it sleeps at most, should a wake-up be lost with whoever died before it.
const NAP: Duration = Duration::from_millis(500);

/// How long it goes on listening after the last one who waited.
const ATTENTION: Duration = Duration::from_secs(1);

/// Whether the watcher listens to other processes' commits.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    /// Whether the thread runs.
    runs: Mutex<bool>,
    listens: AtomicBool,
}

impl Committer {
    /// Starts to listen for other processes. Where the system has no room for a thread the
    /// store is open to them from now on, as nobody would hear them ask, and the thread is tried
    /// again by those who wait for events.
    pub(crate) fn watch_others(self: &Arc<Self>) -> Result<()> {
        if self.ensure_watcher() || self.log.coord.shared().is_some() {
            return Ok(());
        }
        self.share()
    }

    /// Whether the thread runs by now.
    fn ensure_watcher(self: &Arc<Self>) -> bool {
        let mut runs = self.watcher.runs.lock();
        if !*runs && self.chores.may_have_threads() && !self.chores.is_stopping() {
            let watching = Arc::clone(self);
            *runs = self.spawn("braid-watch", move || watching.watch());
        }
        *runs
    }

    /// Sees to it that whoever waits hears of other processes' commits. The caller has been
    /// counted by the watch before: the watcher, about to listen no more, looks at the count.
    pub(crate) fn attend(self: &Arc<Self>) {
        if self.log.coord.joint().is_some() {
            self.ensure_watcher();
        }
        if let Some(joint) = self.log.coord.shared()
            && !self.watcher.listens.swap(true, Ordering::SeqCst)
        {
            joint.page.knock();
        }
    }

    /// Shows what other processes have made durable, without a wait: where there is much of
    /// it, the watcher does.
    pub(crate) fn catch_up_soon(&self) {
        let mode = if self.chores.has_threads() {
            ReadMode::NonBlocking
        } else {
            ReadMode::Blocking
        };
        if matches!(self.catch_up(mode), Err(Error::WouldBlock)) {
            self.rouse_watcher();
        }
    }

    /// Wakes the watcher, wherever it sleeps.
    pub(super) fn rouse_watcher(&self) {
        if let Some(joint) = self.log.coord.joint() {
            joint.page.knock();
            joint.page.ring();
        }
    }

    fn watch(&self) {
        let Some(joint) = self.log.coord.joint() else {
            return;
        };
        let mut attentive_since = Instant::now();
        let mut checked = Instant::now();
        loop {
            let (knocks, rings) = (joint.page.knocks(), joint.page.rings());
            // Looked at after the numbers: who has it stop changes them then.
            if self.chores.is_stopping() {
                return;
            }
            if self.log.coord.shared().is_none() {
                if knocks > 0 && self.share().is_ok() {
                    continue;
                }
                joint.page.wait_for_knock(knocks, NAP);
                continue;
            }
            self.notice(joint);
            if checked.elapsed() >= NAP {
                checked = Instant::now();
                self.check_in_place(joint);
            }
            if self.log.watch.is_awaited() {
                attentive_since = Instant::now();
            }
            if self.watcher.listens.load(Ordering::SeqCst) && attentive_since.elapsed() < ATTENTION
            {
                joint.page.wait_for_ring(rings, NAP);
            } else {
                self.watcher.listens.store(false, Ordering::SeqCst);
                // Whoever found it listening had counted itself before, and who counts itself
                // later will knock.
                if self.log.watch.is_awaited() {
                    self.watcher.listens.store(true, Ordering::SeqCst);
                    attentive_since = Instant::now();
                    continue;
                }
                joint.page.wait_for_knock(knocks, NAP);
                attentive_since = Instant::now();
            }
        }
    }

    /// Stops the writing, and whoever waits, if what the processes come together by is gone.
    /// Who writes finds that out by itself; who only follows would keep those out who have,
    /// and have left, for as long as it waits for what nobody will tell it of.
    fn check_in_place(&self, joint: &Joint) {
        if !self.log.is_stopped() {
            // Where the path can't be looked at, who writes will be told of that.
            let _in_place = self.syncer.stopping(self.log.coord.check_in_place(joint));
        }
    }

    /// Shows what has become durable, and that the store has stopped.
    fn notice(&self, joint: &Joint) {
        if !joint.page.names_us() && !self.log.is_stopped() {
            let _condemned = self.syncer.stopping(self.log.coord.check_page(joint));
        }
        if joint.page.is_poisoned() && !self.log.is_stopped() {
            self.syncer.stop(Error::Poisoned {
                reason: "another process of the store could not sync what it had written"
                    .to_owned(),
            });
        }
        if self.watcher.listens.load(Ordering::SeqCst) {
            // What keeps it from catching up is told to the read or the append that meets it.
            let _caught_up = self.catch_up(ReadMode::Blocking);
        }
        self.log.deliver(ReadMode::Blocking);
    }
}
