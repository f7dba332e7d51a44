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
use crate::error::Error;
use crate::read::Effort;

/// How long it sleeps at most, should a wake-up be lost with whoever died before it.
const NAP: Duration = Duration::from_millis(500);

/// How long it goes on listening after the last one who waited.
const ATTENTION: Duration = Duration::from_secs(1);

/// Whether the watcher listens to other processes' commits.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    listens: AtomicBool,
}

impl Committer {
    /// Starts to listen for other processes.
    pub(crate) fn watch_others(self: &Arc<Self>) {
        let watching = Arc::clone(self);
        self.spawn("braid-watch", move || watching.watch());
    }

    /// Sees to it that whoever waits hears of other processes' commits. The caller has been
    /// counted by the watch before: the watcher, about to listen no more, looks at the count.
    pub(crate) fn attend(&self) {
        if let Some(joint) = self.log.coord.shared()
            && !self.watcher.listens.swap(true, Ordering::SeqCst)
        {
            joint.page.knock();
        }
    }

    /// Shows what other processes have made durable, without a wait: where there is much of
    /// it, the watcher does.
    pub(crate) fn catch_up_soon(&self) {
        let effort = if self.chores.has_threads() {
            Effort::Inline
        } else {
            Effort::Blocking
        };
        if matches!(self.catch_up(effort), Err(Error::WouldBlock)) {
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

    /// Shows what has become durable, and that the store has stopped.
    fn notice(&self, joint: &Joint) {
        if joint.page.is_poisoned() && !self.log.is_stopped() {
            self.syncer.stop(Error::Poisoned {
                reason: "another process of the store could not sync what it had written"
                    .to_owned(),
            });
        }
        if self.watcher.listens.load(Ordering::SeqCst) {
            // What keeps it from catching up is told to the read or the append that meets it.
            let _caught_up = self.catch_up(Effort::Blocking);
        }
        self.log.watch.deliver();
    }
}
