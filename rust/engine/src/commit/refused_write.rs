//! Distinguish a write that the kernel refused from a write that failed on the disk.

use std::io;

/// Whether the kernel refused a write, for example because of a quota or a full disk. Such a refusal
/// may concern this process alone. It matters for a rollback, which overwrites a failed batch with
/// zeros: the kernel would refuse zeros after the bytes that were written.
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
