//! Notifications: how a session reports to all other sessions that commits are durable or that the
//! store has stopped.
//!
//! The notify counter in the shared page is incremented for each notification. A session that waits
//! for new commits sleeps until the counter changes: a futex on the mapped word.
//!
//! `commit/sync.rs` notifies after a sync, and waits for the sync of another session.
//! `commit/poison.rs` notifies when the store stops. The thread in
//! `commit/notification_listener.rs` waits while this session has waiters for events.

use std::time::Duration;

use super::page::{AT_LISTENERS, AT_NOTIFICATIONS, CoordPage};

impl CoordPage {
    /// Notify all sessions that more is durable or that the store has stopped.
    pub(crate) fn notify(&self) {
        self.words.add(AT_NOTIFICATIONS, 1);
        // Sequentially consistent: a listener is counted before it reads the notifications, and
        // this thread increments the notifications before it reads the count. So either the
        // listener sees the notification, or this thread sees the listener. With a weaker ordering
        // both could miss the change, and the listener would sleep until its timeout. A process
        // that dies while it listens remains counted, which costs one system call per notification.
        if self.words.load(AT_LISTENERS) > 0 {
            self.words.wake(AT_NOTIFICATIONS);
        }
    }

    pub(crate) fn notifications(&self) -> u64 {
        self.words.load(AT_NOTIFICATIONS)
    }

    pub(crate) fn wait_for_notification(&self, seen: u64, timeout: Duration) {
        self.words.add(AT_LISTENERS, 1);
        self.words.wait(AT_NOTIFICATIONS, seen, timeout);
        self.words.add(AT_LISTENERS, u64::MAX);
    }
}
