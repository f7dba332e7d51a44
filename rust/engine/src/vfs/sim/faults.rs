//! Fault injection: calls that fail, and a crash at a chosen step.

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
    /// Whether the call changes anything in memory or on the disk, and so counts as a step.
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
    /// With this error number of the operating system.
    Errno(i32),
    /// With this kind of error, and no number.
    Kind(io::ErrorKind),
    /// A read or a write succeeds for a part of its bytes. Other calls succeed as usual.
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

/// What happens to the calls after the one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Then {
    /// The later calls fail, too.
    Forever,
    /// The later calls succeed.
    Once,
}

/// A planned failure. The failing call does none of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The call that fails.
    pub call: Call,
    /// Which of the calls from now on fails, counted from 1.
    pub nth: u64,
    /// How it fails.
    pub error: Failure,
    /// Whether later calls fail, too.
    pub then: Then,
    /// For the syncs: the unsynced data is marked as clean and lost, as Linux does after a failed
    /// `fsync`. Programs see the data until the cache is dropped, later syncs succeed, and the disk
    /// never gets the data.
    pub lose: bool,
}

impl Fault {
    /// A fault of the `nth` such call from now on.
    pub fn once(call: Call, nth: u64, error: Failure) -> Self {
        Self {
            call,
            nth,
            error,
            then: Then::Once,
            lose: false,
        }
    }

    /// A fault of the `nth` such call from now on and of every later one.
    pub fn forever(call: Call, nth: u64, error: Failure) -> Self {
        Self {
            then: Then::Forever,
            ..Self::once(call, nth, error)
        }
    }

    /// The same fault, which also loses the data that was to be synced.
    #[must_use]
    pub fn losing(self) -> Self {
        Self { lose: true, ..self }
    }
}

/// The outcome of a call. If the call transfers bytes, it transfers the first `allowed` ones. Then
/// it fails with `error` if there is one.
#[derive(Debug)]
pub(super) struct CallOutcome {
    pub(super) allowed: usize,
    pub(super) error: Option<io::Error>,
    pub(super) lose: bool,
}

impl CallOutcome {
    pub(super) fn success(len: usize) -> Self {
        Self {
            allowed: len,
            error: None,
            lose: false,
        }
    }

    fn failure(error: io::Error) -> Self {
        Self {
            allowed: 0,
            error: Some(error),
            lose: false,
        }
    }
}

#[derive(Debug)]
struct ActiveFault {
    fault: Fault,
    /// The fault applies to paths that contain this text.
    path: String,
    /// The number of calls so far to which the fault applies.
    calls: u64,
}

impl ActiveFault {
    /// Count a call. Return whether the call fails.
    fn fires(&mut self, call: Call, path: &str) -> bool {
        if self.fault.call != call || !path.contains(&self.path) {
            return false;
        }
        self.calls += 1;
        let nth = self.fault.nth.max(1);
        self.calls == nth || (self.calls > nth && self.fault.then == Then::Forever)
    }
}

/// The numbered steps of a run, and the faults and the crash planned for them.
#[derive(Debug)]
pub(super) struct Script {
    trace: Vec<String>,
    crash_at: Option<u64>,
    crashed: bool,
    faults: Vec<ActiveFault>,
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

    pub(super) fn add_fault(&mut self, fault: Fault, path: &str) {
        self.faults.push(ActiveFault {
            fault,
            path: path.to_owned(),
            calls: 0,
        });
    }

    pub(super) fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// Count a named moment, which is not a call, as a step.
    pub(super) fn moment(&mut self, name: &str) {
        if !self.crashed {
            self.step(format_args!("at {name}"));
        }
    }

    /// Decide the outcome of a call on `path` that is about to transfer `len` bytes.
    pub(super) fn decide(
        &mut self,
        call: Call,
        path: &str,
        detail: fmt::Arguments<'_>,
        len: usize,
    ) -> CallOutcome {
        if self.crashed {
            return CallOutcome::failure(crash());
        }
        if call.is_step() && self.step(format_args!("{call:?} {path}{detail}")) {
            let allowed = self.random.below(len.saturating_add(1));
            return CallOutcome {
                allowed,
                ..CallOutcome::failure(crash())
            };
        }
        // `reduce` and not `next`: every fault must count the call, even if an earlier one fires.
        let firing = self
            .faults
            .iter_mut()
            .filter_map(|active| active.fires(call, path).then_some(active.fault));
        let Some(fault) = firing.reduce(|first, _| first) else {
            return CallOutcome::success(len);
        };
        if let Some(line) = self.trace.last_mut().filter(|_| call.is_step()) {
            line.push_str(" fails");
        }
        match fault.error {
            Failure::Errno(errno) => CallOutcome {
                lose: fault.lose,
                ..CallOutcome::failure(io::Error::from_raw_os_error(errno))
            },
            Failure::Kind(kind) => CallOutcome {
                lose: fault.lose,
                ..CallOutcome::failure(kind.into())
            },
            Failure::Short if len > 1 => CallOutcome::success(1 + self.random.below(len - 1)),
            Failure::Short => CallOutcome::success(len),
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

    /// Count a step. Return whether the crash is at this step.
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
