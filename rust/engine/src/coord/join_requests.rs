//! Join requests: how a session asks the session that holds the store alone to share it.
//!
//! `open/acquire_locks.rs` sends them. In the session that holds the store, the thread in
//! `commit/notification_listener.rs` waits for them. A session increments the same word to wake its
//! own thread.

use std::time::Duration;

use super::page::{AT_JOIN_REQUESTS, CoordPage};

impl CoordPage {
    /// Send a join request to the session that holds the store alone.
    pub(crate) fn request_join(&self) {
        self.words.add(AT_JOIN_REQUESTS, 1);
        self.words.wake(AT_JOIN_REQUESTS);
    }

    pub(crate) fn join_requests(&self) -> u64 {
        self.words.load(AT_JOIN_REQUESTS)
    }

    pub(crate) fn wait_for_join_request(&self, seen: u64, timeout: Duration) {
        self.words.wait(AT_JOIN_REQUESTS, seen, timeout);
    }
}
