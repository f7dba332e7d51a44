//! Appends that build on appends whose outcome isn't known yet.
//!
//! A caller that has decided on the state after its own previous append need not wait until that
//! append is durable: it appends the next events at once, and both share a sync. The versions alone
//! don't protect such an append. If the previous append is refused and another writer appends the
//! same number of events in its place, the stream has the expected version, but not the expected
//! events. So the append names the appends that it builds on, and is refused unless all of them
//! were accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const UNDECIDED: u8 = 0;
const ACCEPTED: u8 = 1;
const DURABLE: u8 = 2;
const REFUSED: u8 = 3;

/// The outcome of an append on which other appends may build.
///
/// Clones refer to the same append. Attach it to one append only ([`crate::Prepared::as_pending`]),
/// and never to an append with an idempotency key: that append may be answered with the result of
/// an earlier one, whose events are not the newest ones of their streams.
#[derive(Clone, Debug)]
pub struct PendingAppend {
    /// `ACCEPTED` is stored and compared under the write lock of the session, so an append that
    /// builds on another one is never validated against an outcome that is being changed. The other
    /// values are also read without this lock. They are stored with `Release` and read with
    /// `Acquire`: a thread that sees `DURABLE` also sees the result.
    state: Arc<AtomicU8>,
}

impl Default for PendingAppend {
    fn default() -> Self {
        Self {
            state: Arc::new(AtomicU8::new(UNDECIDED)),
        }
    }
}

impl PendingAppend {
    /// Whether the append was committed and is durable.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.state.load(Ordering::Acquire) == DURABLE
    }

    /// Whether the append failed: it was refused, or its outcome is unknown.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.state.load(Ordering::Acquire) == REFUSED
    }

    /// Whether the frame of the append was accepted. While the caller holds the write lock, this
    /// means that the frame precedes every frame that is written from now on. If the caller
    /// does not hold the lock, the frame's write may still be in progress, and may fail.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), ACCEPTED | DURABLE)
    }

    /// Note that the frame of the append is part of the batch. The caller holds the write lock.
    pub(super) fn accept(&self) {
        self.state.store(ACCEPTED, Ordering::Release);
    }

    pub(super) fn note_durable(&self) {
        self.state.store(DURABLE, Ordering::Release);
    }

    /// Note that the append failed. After a failed write, the caller still holds the write lock:
    /// no append may build on a frame that was rolled back.
    pub(super) fn refuse(&self) {
        self.state.store(REFUSED, Ordering::Release);
    }
}
