//! Simulated threads that sleep until a word of a shared page changes.

use crate::lock::{Condvar, Mutex};

/// The threads that sleep because of a word in one file.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    /// Held while a thread decides to sleep and while another wakes, so that no wake-up falls
    /// between the decision and the sleep.
    pub(super) deciding: Mutex<()>,
    pub(super) woken: Condvar,
}
