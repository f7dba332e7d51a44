//! The counters of a session, and the statistics of a store.

use std::sync::atomic::{AtomicU64, Ordering};

/// Defines a set of counters once for three uses: the atomics that the engine increments, the
/// plain numbers that callers read, and the names in reports.
macro_rules! counters {
    (
        $(#[$live_doc:meta])* $live:ident,
        $(#[$plain_doc:meta])* $plain:ident {
            $($(#[$doc:meta])* $name:ident,)+
        }
    ) => {
        $(#[$live_doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $live {
            $(pub(crate) $name: Counter,)+
        }

        impl $live {
            /// Read the counters one after another. The values may be of different moments.
            pub(crate) fn read(&self) -> $plain {
                $plain { $($name: self.$name.value(),)+ }
            }
        }

        $(#[$plain_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $plain {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl $plain {
            /// The number of counters.
            pub const COUNT: usize = [$(stringify!($name)),+].len();
            /// The names of the counters, in the order of [`Self::values`].
            pub const NAMES: [&'static str; Self::COUNT] = [$(stringify!($name)),+];

            /// The values of the counters, in the order of [`Self::NAMES`].
            pub fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$name),+]
            }

            /// Create counters from their values, in the order of [`Self::NAMES`].
            pub fn from_values([$($name),+]: [u64; Self::COUNT]) -> Self {
                Self { $($name),+ }
            }
        }
    };
}

// A new counter here moves the words `HEARTBEAT_ID` and `HEARTBEAT_TIME` of a session's slot in the
// shared page, and needs a new `PROTOCOL` (see `coord`).
counters! {
    /// The counters of a session since it was opened. Other sessions read these counters from the
    /// shared page. A further counter moves the words after them, so it needs a new
    /// `coord::PROTOCOL`.
    SessionCounters,
    /// The counters of a session since it was opened.
    SessionCounts {
        /// Appends requested.
        appends,
        /// Commits written.
        commits,
        /// Events written.
        events,
        /// Write batches: groups of commits that were written with one call.
        write_batches,
        /// Syncs of the log.
        fsyncs,
        /// Appends refused by an expectation or an idempotency key.
        conflicts,
        /// Appends answered from an earlier one with the same idempotency key.
        replays,
        /// Times that the session waited for another one to write or to sync.
        waits,
    }
}

counters! {
    /// What a session counts for its own reports alone.
    LocalCounters,
    /// What a session has observed since it was opened.
    LocalCounts {
        /// Jumps of the wall clock by more than ten seconds that this session has noticed. A jump
        /// ahead by more than a day is not recorded in commits.
        clock_jumps,
        /// Chunk loads answered from memory.
        cache_hits,
        /// Chunk loads that read the file.
        cache_misses,
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    // `Relaxed`: the numbers are shown in reports, and no other data depends on them.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a store contains, and what this session has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Position of the last event.
    pub head: u64,
    /// Streams that have events.
    pub streams: u64,
    /// Bytes of the log: frames, and the headers of segments.
    pub bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// What this session has done.
    pub session: SessionCounts,
    /// What this session has observed.
    pub local: LocalCounts,
    /// Whether a sync has failed, so that nothing more is written until the store is closed
    /// and opened again.
    pub poisoned: bool,
    /// Bytes of log after the proven durable end of a store that was opened read-only. They may
    /// contain commits, even acknowledged ones. An open for writing determines which of them are
    /// valid.
    pub unproven: u64,
}
