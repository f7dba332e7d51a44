//! How a store is opened, and whether a read of it may wait.

use std::time::Duration;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is an independent switch"
)]
pub struct Options {
    /// Bytes of the first segment file of a new store; each further one is twice as large as the
    /// one before.
    pub first_segment: u64,
    /// Maximum bytes of a segment file; a frame that needs more gets a larger one.
    pub max_segment: u64,
    /// Maximum bytes of verified log that are kept in memory.
    pub cache: u64,
    /// Whether the store may start threads that commit and that zero-fill ahead of the tail.
    /// Without them all work is done in the callers' threads, in an order that a test can
    /// repeat.
    pub background: bool,
    /// Whether segments are filled with zeros ahead of the tail, which makes syncs cheaper on
    /// a real disk.
    pub zero_fill: bool,
    /// Whether a store is created where there is none.
    pub create: bool,
    /// Whether the store is opened for reading only: nothing is created, written, moved or synced,
    /// and only the part of the log that is proven durable is visible.
    pub read_only: bool,
    /// Which other sessions may have the store open at the same time.
    pub mode: Mode,
    /// Maximum time that an open or an append waits for another process that holds the store or one
    /// of its locks.
    // `coord/lock_timeout.rs` applies it to appends, `open/open_timeout.rs` to opens.
    pub lock_timeout: Duration,
    /// The id of the store that must be in the directory, if it is known. If another store is
    /// there, the open fails before anything in the directory is changed.
    pub identity: Option<[u8; 16]>,
}

/// Which other sessions may have a store open at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// No other session.
    #[default]
    Exclusive,
    /// Any number of sessions, of this process and of other processes of this machine.
    Shared,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            first_segment: 1 << 20,
            max_segment: 128 << 20,
            cache: 64 << 20,
            background: true,
            zero_fill: true,
            create: true,
            read_only: false,
            mode: Mode::Exclusive,
            lock_timeout: Duration::from_secs(10),
            identity: None,
        }
    }
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// The read may wait for the disk.
    #[default]
    Blocking,
    /// The read returns [`crate::Error::WouldBlock`] instead of waiting. For reads on an event
    /// loop.
    NonBlocking,
}
