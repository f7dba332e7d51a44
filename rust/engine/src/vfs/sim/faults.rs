//! Failures on demand: calls that fail, and the crash at a chosen step.

use std::fmt;
use std::io;

use rustix::io::Errno;

use super::random::Random;

/// A call of [`crate::vfs::Vfs`] or [`crate::vfs::VfsFile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Call {
    /// `open` of a file that must not exist yet.
    Create,
    /// `create_dir`.
    CreateDir,
    /// `drop_cache`.
    DropCache,
    /// `entry`.
    Entry,
    /// `list`.
    List,
    /// `LockFile::try_lock`.
    Lock,
    /// `open` of a file that must exist.
    Open,
    /// `read_at` and `read_at_nowait`.
    Read,
    /// `remove`.
    Remove,
    /// `rename`.
    Rename,
    /// `size`.
    Size,
    /// `sync_all`.
    SyncAll,
    /// `sync_data`.
    SyncData,
    /// `sync_dir`.
    SyncDir,
    /// `write_vectored_at`.
    Write,
}

impl Call {
    /// Whether the call changes anything, in memory or on the disk, and so counts as a step.
    fn is_step(self) -> bool {
        match self {
            Self::DropCache
            | Self::Entry
            | Self::List
            | Self::Lock
            | Self::Open
            | Self::Read
            | Self::Size => false,
            Self::Create
            | Self::CreateDir
            | Self::Remove
            | Self::Rename
            | Self::SyncAll
            | Self::SyncData
            | Self::SyncDir
            | Self::Write => true,
        }
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// With this number of the operating system.
    Errno(i32),
    /// With this kind of error, and no number.
    Kind(io::ErrorKind),
    /// Not at all, but a read or write does only part of its work. Nothing to other calls.
    Short,
}

impl Failure {
    /// The call was interrupted before it did anything.
    pub const EINTR: Self = Self::Errno(Errno::INTR.raw_os_error());
    /// The disk failed.
    pub const EIO: Self = Self::Errno(Errno::IO.raw_os_error());
    /// The disk is full.
    pub const ENOSPC: Self = Self::Errno(Errno::NOSPC.raw_os_error());
}

impl From<io::ErrorKind> for Failure {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Kind(kind)
    }
}

/// What becomes of the calls after the one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Then {
    /// They all fail too.
    Forever,
    /// They succeed.
    Once,
}

/// A failure to come. The failing call does none of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The call that fails.
    pub call: Call,
    /// Which of these calls from now on, counted from 1.
    pub nth: u64,
    /// How it fails.
    pub error: Failure,
    /// Whether it goes on failing.
    pub then: Then,
    /// For the syncs: the un-synced data is marked clean and dropped. Programs still see it
    /// until the cache is dropped, later syncs succeed, the disk never gets it: what Linux
    /// does after a failed `fsync`.
    pub lose: bool,
}

impl Fault {
    /// The `nth` such call from now on fails, once.
    pub fn once(call: Call, nth: u64, error: Failure) -> Self {
        Self {
            call,
            nth,
            error,
            then: Then::Once,
            lose: false,
        }
    }

    /// The `nth` such call from now on fails, and every later one.
    pub fn forever(call: Call, nth: u64, error: Failure) -> Self {
        Self {
            then: Then::Forever,
            ..Self::once(call, nth, error)
        }
    }

    /// The same, losing what was to be synced.
    #[must_use]
    pub fn losing(self) -> Self {
        Self { lose: true, ..self }
    }
}

/// What a call is to do: the first `allowed` bytes of its work, if it works on bytes, and then
/// fail with `error` if there is one.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) allowed: usize,
    pub(super) error: Option<io::Error>,
    pub(super) lose: bool,
}

impl Verdict {
    pub(super) fn go(len: usize) -> Self {
        Self {
            allowed: len,
            error: None,
            lose: false,
        }
    }

    fn fail(error: io::Error) -> Self {
        Self {
            allowed: 0,
            error: Some(error),
            lose: false,
        }
    }
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    /// The fault concerns paths that hold this text.
    on: String,
    seen: u64,
}

impl Armed {
    fn fires(&mut self, call: Call, path: &str) -> bool {
        if self.fault.call != call || !path.contains(&self.on) {
            return false;
        }
        self.seen += 1;
        let nth = self.fault.nth.max(1);
        self.seen == nth || (self.seen > nth && self.fault.then == Then::Forever)
    }
}

/// The numbered steps of a run, and what goes wrong at them.
#[derive(Debug)]
pub(super) struct Script {
    trace: Vec<String>,
    crash_at: Option<u64>,
    crashed: bool,
    faults: Vec<Armed>,
    random: Random,
}

impl Script {
    pub(super) fn new(random: Random) -> Self {
        Self {
            trace: Vec::new(),
            crash_at: None,
            crashed: false,
            faults: Vec::new(),
            random,
        }
    }

    pub(super) fn crash_at(&mut self, step: u64) {
        self.crash_at = Some(step);
    }

    pub(super) fn arm(&mut self, fault: Fault, on: &str) {
        self.faults.push(Armed {
            fault,
            on: on.to_owned(),
            seen: 0,
        });
    }

    pub(super) fn disarm(&mut self) {
        self.faults.clear();
    }

    /// Passes a moment that is no I/O.
    pub(super) fn moment(&mut self, name: &str) {
        if !self.crashed {
            self.step(format_args!("at {name}"));
        }
    }

    /// Judges a call on `path` that is about to move `len` bytes.
    pub(super) fn judge(
        &mut self,
        call: Call,
        path: &str,
        detail: fmt::Arguments<'_>,
        len: usize,
    ) -> Verdict {
        if self.crashed {
            return Verdict::fail(crash());
        }
        if call.is_step() && self.step(format_args!("{call:?} {path}{detail}")) {
            let allowed = self.random.below(len.saturating_add(1));
            return Verdict {
                allowed,
                ..Verdict::fail(crash())
            };
        }
        // Each fault counts the calls, also while another one fires.
        let firing = self
            .faults
            .iter_mut()
            .filter_map(|a| a.fires(call, path).then_some(a.fault));
        let Some(fault) = firing.reduce(|first, _| first) else {
            return Verdict::go(len);
        };
        if let Some(line) = self.trace.last_mut().filter(|_| call.is_step()) {
            line.push_str(" fails");
        }
        match fault.error {
            Failure::Errno(errno) => Verdict {
                lose: fault.lose,
                ..Verdict::fail(io::Error::from_raw_os_error(errno))
            },
            Failure::Kind(kind) => Verdict {
                lose: fault.lose,
                ..Verdict::fail(kind.into())
            },
            Failure::Short if len > 1 => Verdict::go(1 + self.random.below(len - 1)),
            Failure::Short => Verdict::go(len),
        }
    }

    pub(super) fn crashed(&self) -> bool {
        self.crashed
    }

    pub(super) fn steps(&self) -> u64 {
        self.trace.len() as u64
    }

    pub(super) fn trace(&self) -> &[String] {
        &self.trace
    }

    /// Counts a step; true if the crash comes at it.
    fn step(&mut self, what: fmt::Arguments<'_>) -> bool {
        let number = self.steps() + 1;
        self.crashed = self.crash_at == Some(number);
        let end = if self.crashed { " crashes" } else { "" };
        self.trace.push(format!("{number} {what}{end}"));
        self.crashed
    }
}

fn crash() -> io::Error {
    io::Error::other("simulated crash")
}
