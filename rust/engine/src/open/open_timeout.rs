//! The time limits of an open that waits for another process.

use std::time::{Duration, Instant};

use crate::vfs::Vfs;

/// Maximum wait for a holder without a shared page: it may be creating one. A store that has no
/// holder report is new, and the creation of a new store is waited for until the lock timeout.
const GRACE_PERIOD: Duration = Duration::from_millis(250);

/// Interval at which the progress report of another process is read.
const REPORT_INTERVAL: Duration = Duration::from_millis(20);

/// First pause between two attempts to acquire the locks. Each further pause is twice as long, up
/// to `MAX_PAUSE`.
const MIN_PAUSE: Duration = Duration::from_micros(200);

const MAX_PAUSE: Duration = Duration::from_millis(20);

/// Return the time at which the wait for a holder without a shared page ends.
pub(super) fn grace_deadline(lock_timeout: Duration) -> Instant {
    Instant::now() + GRACE_PERIOD.min(lock_timeout)
}

/// The deadline of a wait for another process that is opening the store. Recovery of a large log
/// may take long, so the deadline moves while that process reports progress.
pub(super) struct OpenTimeout {
    pub(super) deadline: Instant,
    lock_timeout: Duration,
    /// The last report of that process, and when it was read.
    report: Option<Vec<u8>>,
    read_at: Instant,
}

impl OpenTimeout {
    pub(super) fn begin(lock_timeout: Duration, report: Option<Vec<u8>>) -> Self {
        let now = Instant::now();
        Self {
            deadline: now + lock_timeout,
            lock_timeout,
            report,
            read_at: now,
        }
    }

    /// Whether that process has made no progress within the lock timeout. `read` returns its
    /// report.
    pub(super) fn is_over(&mut self, read: impl FnOnce() -> Option<Vec<u8>>) -> bool {
        let now = Instant::now();
        if now < self.deadline && now - self.read_at < REPORT_INTERVAL {
            return false;
        }
        self.read_at = now;
        let report = read();
        if report != self.report {
            self.report = report;
            self.deadline = now + self.lock_timeout;
        }
        now >= self.deadline
    }
}

/// The pauses between attempts to acquire the locks.
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(MIN_PAUSE)
    }
}

impl Pause {
    pub(super) fn sleep(&mut self, vfs: &dyn Vfs) {
        vfs.pause(self.0);
        self.0 = (self.0 * 2).min(MAX_PAUSE);
    }
}
