//! Distinguish a write that the kernel refused from a write that failed.

use std::io;

/// Whether the kernel refused a write, for example because of a quota or a full disk, as opposed to
/// a failure of the disk. A refusal may concern this process alone, and would also apply to the
/// zeros of a rollback.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::ReadOnlyFilesystem
    )
}
