//! The time limits of waits for a lock that another session holds.
//!
//! The longest time is `Options::lock_timeout`. Its default is in `options.rs`. The Python package
//! always passes a value: its default is `DEFAULT_LOCK_TIMEOUT` in
//! `python/eventbraid/store/_open_options.py`. This module turns the option into deadlines.
//! `open/open_timeout.rs` does so for the locks of an open.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;

/// Maximum time between two attempts to acquire a lock. A waiting thread has to try again without a
/// notification, because a holder that dies sends none. Also the time for which only the session
/// with the served ticket may acquire the write lock. After that time, any waiting session may.
pub(crate) const RECHECK: Duration = Duration::from_millis(3);

/// Maximum time that a caller's thread waits for another session to release the write lock.
const BRIEF: Duration = Duration::from_millis(20);

/// Which limit applies to a thread's wait for another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitBudget {
    /// [`BRIEF`], because the caller's thread can't be interrupted while it waits.
    Brief,
    /// The lock timeout of the store's options.
    Full,
}

/// Maximum time to wait for a lock that another session holds: `lock_timeout` of the options.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockTimeout(pub(super) Duration);

impl LockTimeout {
    /// Return the time at which a wait that begins now has used up its budget.
    pub(super) fn deadline(self, budget: WaitBudget) -> Instant {
        let limit = match budget {
            WaitBudget::Brief => self.0.min(BRIEF),
            WaitBudget::Full => self.0,
        };
        Instant::now() + limit
    }

    /// Build the error of a wait that has used up the lock timeout. The holder of the lock may be
    /// suspended, for example by a debugger.
    pub(super) fn expired(self, root: &Path, holder: &str, lock: &str) -> Error {
        Error::StoreBusy {
            path: root.to_path_buf(),
            holder: format!(
                "{holder}, which has held {lock} for more than {:.1} s and may be suspended",
                self.0.as_secs_f64()
            ),
        }
    }
}
