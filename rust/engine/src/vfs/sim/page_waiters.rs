//! Threads that wait for a change of a word of a simulated shared page.

use crate::mutex::{Condvar, Mutex};

/// The threads that wait for a word of one page.
#[derive(Debug, Default)]
pub(super) struct PageWaiters {
    /// Held by a waiting thread from its read of the word until it sleeps, and by a thread that
    /// wakes others. Without the lock, a wake-up between the read and the sleep would be lost. The
    /// futex of a real kernel loses none.
    pub(super) before_sleep: Mutex<()>,
    pub(super) woken: Condvar,
}
