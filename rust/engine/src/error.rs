//! The one error type of the engine.
//!
//! An error has its facts in fields, and its text is one technical line. The text contains no
//! remedy: the Python exception for the error adds it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::append::Expectation;
use crate::format_version::FORMAT;

/// A stream whose version did not meet the expectation of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictedStream {
    /// The stream's name.
    pub stream: String,
    /// The expectation of the append.
    pub expected: Expectation,
    /// The version that the stream has.
    pub actual: u64,
}

/// A category whose version did not meet the expectation of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictedCategory {
    /// The category.
    pub category: String,
    /// The expectation of the append.
    pub expected: Expectation,
    /// The version that the category has: the number of its streams.
    pub actual: u64,
}

/// Everything that can go wrong in the engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The store was closed.
    Closed,
    /// Data that had been acknowledged is damaged.
    CorruptStore {
        /// The damaged file.
        file: PathBuf,
        /// The offset of the first bad byte in the file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The lock files or the shared page of the store were replaced or damaged while it is open.
    Detached {
        /// The file.
        path: PathBuf,
        /// What happened to it.
        reason: String,
    },
    /// The idempotency key was used before, with other content.
    IdempotencyMismatch {
        /// The key.
        key: String,
    },
    /// The store has a newer format than this build can read.
    IncompatibleFormat {
        /// The file with the newer format.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The newest format that this build reads.
        supported: u32,
    },
    /// An argument is invalid for every store.
    InvalidArgument {
        /// Which argument.
        what: &'static str,
        /// Its value, shortened.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A call of the operating system failed.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operation, as a verb for the message.
        operation: &'static str,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The error number of the operating system, if there is one.
        code: Option<i32>,
        /// The operating system's message.
        reason: String,
    },
    /// A limit of the store was exceeded.
    LimitExceeded {
        /// What is limited.
        what: &'static str,
        /// The requested amount.
        actual: u64,
        /// The maximum.
        limit: u64,
    },
    /// The path of the store no longer leads to the store that was opened: it names another
    /// directory, or another store is there.
    Moved {
        /// The path.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
    /// The directory contains no store.
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// It is unknown whether the append is in the log.
    OutcomeUnknown {
        /// Why it is unknown.
        reason: String,
    },
    /// A sync failed. Nothing more is written until the store is opened again.
    Poisoned {
        /// The failure.
        reason: String,
    },
    /// The disk is full, or a quota is reached. Nothing was written.
    StorageFull {
        /// The file that could not be extended.
        path: PathBuf,
        /// The operating system's message.
        reason: String,
    },
    /// Another process has the store open.
    StoreBusy {
        /// The store's directory.
        path: PathBuf,
        /// The process that holds it, as far as known.
        holder: String,
    },
    /// Several processes can't share a store in this directory.
    Unshareable {
        /// The store's directory.
        path: PathBuf,
        /// Why they can't.
        reason: String,
    },
    /// At least one stream or category is not at the version that the append expected.
    VersionConflict {
        /// Every failing stream.
        failures: Vec<ConflictedStream>,
        /// Every failing category.
        categories: Vec<ConflictedCategory>,
    },
    /// A non-blocking read would have to wait for the disk.
    WouldBlock,
}

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error with the path and the operation it belongs to.
    pub(crate) fn io(path: &Path, operation: &'static str, error: &io::Error) -> Self {
        let path = path.to_path_buf();
        let reason = error.to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::StorageFull { path, reason }
            }
            kind => Self::Io {
                path,
                operation,
                kind,
                code: error.raw_os_error(),
                reason,
            },
        }
    }

    /// The error for damage of acknowledged data.
    pub(crate) fn corrupt(file: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::CorruptStore {
            file: file.to_path_buf(),
            offset,
            reason: reason.into(),
        }
    }

    /// The error for a lock file or a shared page that was replaced or damaged.
    pub(crate) fn detached(path: &Path, reason: &str) -> Self {
        Self::Detached {
            path: path.to_path_buf(),
            reason: reason.to_owned(),
        }
    }

    /// The error for a path that no longer names the open directory.
    pub(crate) fn moved(path: &Path) -> Self {
        Self::Moved {
            path: path.to_path_buf(),
            reason: "the path no longer names the directory that this program has open; it was \
                     moved, removed or replaced"
                .to_owned(),
        }
    }

    /// The error for a file with a newer format than this build can read.
    pub(crate) fn newer(path: &Path, found: u32) -> Self {
        Self::IncompatibleFormat {
            path: path.to_path_buf(),
            found,
            supported: FORMAT,
        }
    }

    /// The error for an invalid argument. The value is shortened for the message.
    pub(crate) fn argument(what: &'static str, value: &str, reason: impl Into<String>) -> Self {
        let mut shortened: String = value.chars().take(64).collect();
        if shortened.len() < value.len() {
            shortened.push('…');
        }
        Self::InvalidArgument {
            what,
            value: shortened,
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the store is closed"),
            Self::CorruptStore {
                file,
                offset,
                reason,
            } => write!(
                f,
                "{} is damaged at byte {offset}: {reason}",
                file.display()
            ),
            Self::Detached { path, reason } | Self::Moved { path, reason } => {
                write!(f, "{}: {reason}", path.display())
            }
            Self::IdempotencyMismatch { key } => {
                write!(f, "idempotency key {key:?} was used with other content")
            }
            Self::IncompatibleFormat {
                path,
                found,
                supported,
            } => write!(
                f,
                "{} has store format {found}, expected at most {supported}",
                path.display()
            ),
            Self::InvalidArgument {
                what,
                value,
                reason,
            } => write!(f, "{what} {value:?} {reason}"),
            Self::Io {
                path,
                operation,
                reason,
                ..
            } => write!(f, "could not {operation} {}: {reason}", path.display()),
            Self::LimitExceeded {
                what,
                actual,
                limit,
            } => write!(f, "{what} are {actual}, expected at most {limit}"),
            Self::NotAStore { path, reason } => {
                write!(f, "{} is not an event store: {reason}", path.display())
            }
            Self::OutcomeUnknown { reason } => {
                write!(f, "the outcome of the append is unknown: {reason}")
            }
            Self::Poisoned { reason } => write!(f, "the store has stopped writing: {reason}"),
            Self::StorageFull { path, reason } => {
                write!(f, "no room for {}: {reason}", path.display())
            }
            Self::StoreBusy { path, holder } => {
                write!(f, "{} is in use by {holder}", path.display())
            }
            Self::Unshareable { path, reason } => {
                write!(f, "{} can't be shared: {reason}", path.display())
            }
            Self::VersionConflict {
                failures,
                categories,
            } => conflict(f, failures, categories),
            Self::WouldBlock => f.write_str("the read would have to wait for the disk"),
        }
    }
}

/// The maximum number of streams and categories that the message of a conflict names.
const NAMED: usize = 5;

fn conflict(
    f: &mut fmt::Formatter<'_>,
    failures: &[ConflictedStream],
    categories: &[ConflictedCategory],
) -> fmt::Result {
    let streams = failures.iter().map(|failure| {
        let name = ("stream", &failure.stream);
        (name, failure.expected, failure.actual)
    });
    let categories = categories.iter().map(|failure| {
        let name = ("category", &failure.category);
        (name, failure.expected, failure.actual)
    });
    f.write_str("version conflict: ")?;
    let mut all = streams.chain(categories);
    for (i, ((what, name), expected, actual)) in all.by_ref().take(NAMED).enumerate() {
        let separator = if i == 0 { "" } else { "; " };
        write!(
            f,
            "{separator}{what} {name:?} expected {expected}, actual version {actual}"
        )?;
    }
    match all.count() {
        0 => Ok(()),
        more => write!(f, "; and {more} more"),
    }
}

impl std::error::Error for Error {}
