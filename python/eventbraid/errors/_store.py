"""The errors of a store, except those of a single append."""

from __future__ import annotations

import errno
from pathlib import PurePath
from typing import TYPE_CHECKING

from eventbraid.errors._argument import InvalidArgument
from eventbraid.errors._base import EventbraidError, restore

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.errors._base import State


class StoreError(EventbraidError):
    """The base of the errors that a store raises.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         store.append([("a-1", "x", b"")], expect={"a-1": eb.EXISTS})
        ...     except eb.StoreError as error:
        ...         print(type(error).__name__)
        VersionConflict
    """


class StoreUnusable(StoreError):
    """The base of the errors after which a store can't be used, for a time or for ever.

    No commit is lost. A program that catches such an error stops its work on the store,
    closes the store, and opens the store again after the cause was removed.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.errors import StoreUnusable
        >>> store = eb.open("memory:")
        >>> store.close()
        >>> try:
        ...     store.version("a-1")
        ... except StoreUnusable as error:
        ...     print(type(error).__name__)
        StoreClosed
    """


class StoreClosed(StoreUnusable):
    """The store was closed, or belongs to another process.

    Example:
        >>> import eventbraid as eb
        >>> store = eb.open("memory:")
        >>> store.close()
        >>> store.head()
        Traceback (most recent call last):
        eventbraid.errors.StoreClosed: the store is closed; open it again
    """

    def __init__(self, message: str = "") -> None:
        """Build the error from the reason."""
        super().__init__(message or "the store is closed; open it again")


class StoreBusy(StoreUnusable):
    """Another process holds the store or one of its locks. Nothing was written.

    `eventbraid.open` raises it in three cases:

    * One of the two processes opens the store with ``mode="exclusive"``.
    * The process that has the store open doesn't answer within ``lock_timeout``, for
      example because a debugger has stopped it.
    * That process runs a version of Eventbraid that shares stores by another protocol.

    An append raises it if another process has held a lock of the log for longer than
    ``lock_timeout``.

    Close the store in the other process, or open it in both with ``mode="shared"``.
    Resume or end a process that is stopped. Then try again.

    Attributes:
        path: The path of the store.
        holder: The process that holds it, as far as it is known.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("busy.braid", mode="exclusive") as store:
        ...     try:
        ...         eb.open("busy.braid")
        ...     except eb.StoreBusy as error:
        ...         print(error.path)
        busy.braid
    """

    def __init__(self, path: str, holder: str) -> None:
        """Build the error from the store and its holder."""
        self.path = path
        self.holder = holder
        super().__init__(
            f"{path!r} is in use by {holder}; nothing was written; close it there, or "
            'open it in both with mode="shared", and try again'
        )


class StoreDetached(StoreUnusable):
    """The files at the store's path are no longer those that this program has open.

    While the store was open, its directory or a symbolic link above it was moved,
    removed or replaced; or a file by which the processes of the store coordinate was
    deleted or changed. Nothing was written. All acknowledged commits are safe in the
    directory that was opened, wherever this directory is now.

    A program that moves, removes or restores files of a store, such as a deployment, a
    backup or a clean-up of temporary folders, must not run while the store is open.

    Attributes:
        path: The path.
        reason: The change, such as ``"it was deleted"``.
        remedy: The remedy.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.StoreDetached("shop.braid/coord.shm", "it was deleted").reason
        'it was deleted'
    """

    def __init__(
        self,
        path: str,
        reason: str,
        remedy: str = "this session writes nothing more; close the store in every "
        "process and open it again",
    ) -> None:
        """Build the error from the path, the change and the remedy."""
        self.path = path
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{path!r}: {reason}; nothing was written; {remedy}")


class StorePoisoned(StoreUnusable):
    """A write or a sync of the disk failed, so the store accepts no further appends.

    Durable events can still be read. Close the store and open it again: the log then
    continues in a new file, after the last commit that is known to be durable. The log
    doesn't contain an append that raised `OutcomeUnknown`; retry such an append with
    the same idempotency key.

    Attributes:
        reason: The error that the system reported.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.StorePoisoned("input/output error").reason
        'input/output error'
    """

    def __init__(self, reason: str) -> None:
        """Build the error from the error that the system reported."""
        self.reason = reason
        super().__init__(
            f"the store accepts no further appends, because the disk failed: {reason}; "
            "check the disk, then close the store and open it again; its log then "
            "continues after the last commit that is known to be durable"
        )


class CorruptStore(StoreUnusable):
    """Acknowledged data is damaged. Nothing was changed.

    Attributes:
        file: The damaged file.
        offset: The place in the file, in bytes.
        reason: The damage, such as ``"wrong checksum"``.
        remedy: The remedy.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.CorruptStore("shop.braid/log/1", 4096, "wrong checksum").offset
        4096
    """

    def __init__(
        self, file: str, offset: int, reason: str, remedy: str | None = None
    ) -> None:
        """Build the error from the place of the damage."""
        self.file = file
        self.offset = offset
        self.reason = reason
        self.remedy = remedy or (
            f"run `eventbraid verify {_store_of(file)}` to see what is undamaged; keep "
            "a copy of the directory as it is, then restore it from a backup"
        )
        super().__init__(
            f"{file!r} is damaged at byte {offset}: {reason}; {self.remedy}"
        )


def _store_of(file: str) -> str:
    """Return the directory of the store that contains a file.

    The file is in that directory, or in its folder ``log``.
    """
    folder = PurePath(file).parent
    return str(folder.parent if folder.name == "log" else folder)


class StorageFull(StoreUnusable, OSError):
    """The disk has no space left. Nothing was written. The store can still be read.

    An append can be retried, and so can `eventbraid.open`. If `close` raises it, the
    store is closed nevertheless: all acknowledged commits are durable.

    Attributes:
        path: The path of the file that could not grow.
        reason: The error that the system reported.
        remedy: The remedy.

    Example:
        >>> import errno
        >>> import eventbraid as eb
        >>> eb.errors.StorageFull("shop.braid/log/1", "disk full").errno == errno.ENOSPC
        True
    """

    def __init__(self, path: str, reason: str, remedy: str | None = None) -> None:
        """Build the error from the file, the system's error and the remedy."""
        self.path = path
        self.reason = reason
        self.remedy = remedy or "free some space and append again"
        super().__init__(f"no space left for {path!r} ({reason}); {self.remedy}")
        self.errno = errno.ENOSPC

    def __reduce__(self) -> tuple[Callable[..., object], State]:
        """Pickle ``errno``, too, which isn't in the dictionary of attributes."""
        facts = {**self.__dict__, "errno": self.errno}
        return restore, (type(self), self.args, facts)


class StoreUnavailable(StoreUnusable, OSError):
    """The system refused to open, read or write a file of the store.

    Attributes:
        path: The path of the file.
        operation: The operation that failed, such as ``"open"``.
        reason: The error that the system reported.

    Example:
        >>> import eventbraid as eb
        >>> try:
        ...     eb.open("missing/folder/shop.braid")
        ... except eb.errors.StoreUnavailable as error:
        ...     print(isinstance(error, OSError))
        True
    """

    def __init__(
        self, path: str, operation: str, reason: str, code: int | None = None
    ) -> None:
        """Build the error from the file, the operation and the system's error.

        Args:
            path: The path of the file.
            operation: The operation that failed.
            reason: The error that the system reported.
            code: Its number, the attribute ``errno`` of the error.
        """
        self.path = path
        self.operation = operation
        self.reason = reason
        view = (
            "; to read a store that may not be written, open it with read_only=True"
            if code in {errno.EACCES, errno.EPERM, errno.EROFS}
            and operation != "append to"
            else ""
        )
        limits = {
            errno.EFBIG: "raise this process's limit on the size of files (ulimit -f)",
            errno.EMFILE: "raise this process's limit on open files (ulimit -n)",
            errno.ENFILE: "raise the system's limit on open files",
            errno.EAGAIN: "raise this user's limit on threads (ulimit -u)",
        }
        otherwise = (
            "check that the path exists and that this user may read and write it"
        )
        remedy = limits.get(code or 0, otherwise)
        super().__init__(f"could not {operation} {path!r}: {reason}; {remedy}{view}")
        self.errno = code

    def __reduce__(self) -> tuple[Callable[..., object], State]:
        """Pickle ``errno``, too, which isn't in the dictionary of attributes."""
        facts = {**self.__dict__, "errno": self.errno}
        return restore, (type(self), self.args, facts)


class NotAStore(StoreError):
    """The path isn't an event store, and no store may be created there.

    Attributes:
        path: The path.
        reason: The reason, such as the file that is there.

    Example:
        >>> import eventbraid as eb
        >>> try:
        ...     eb.open("nothing-here", create=False)
        ... except eb.errors.NotAStore as error:
        ...     print(error.path)
        nothing-here
    """

    def __init__(self, path: str, reason: str) -> None:
        """Build the error from the path and the reason."""
        self.path = path
        self.reason = reason
        super().__init__(
            f"{path!r} is not an event store: {reason}; give the path of a store, "
            "or of a new or empty directory"
        )


class IncompatibleFormat(StoreError):
    """The store was written in a format that this version can't read.

    Attributes:
        path: The path of the file.
        found: The format that the file has.
        supported: The newest format that this version reads.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.IncompatibleFormat("shop.braid", found=9, supported=1).found
        9
    """

    def __init__(self, path: str, found: int, supported: int) -> None:
        """Build the error from the file and both formats."""
        self.path = path
        self.found = found
        self.supported = supported
        super().__init__(
            f"{path!r} has format {found}, but this version reads formats up to "
            f"{supported}; open it with a newer version of Eventbraid"
        )


class SharingUnsupported(StoreError):
    """Several processes can't safely share a store in this directory.

    Nothing was changed. A network file system, or a folder that a virtual machine
    shares with its host, is visible to machines that don't see each other's locks. Open
    the store with ``mode="exclusive"``, in one process at a time, or move the store to
    a local disk.

    Attributes:
        path: The path of the store.
        reason: The reason, such as the type of the file system.

    Example:
        >>> import eventbraid as eb
        >>> print(eb.errors.SharingUnsupported("shop.braid", "it is on NFS"))
        several processes can't share 'shop.braid': it is on NFS; ...
    """

    def __init__(self, path: str, reason: str) -> None:
        """Build the error from the store and the reason."""
        self.path = path
        self.reason = reason
        super().__init__(
            f"several processes can't share {path!r}: {reason}; open it with "
            'mode="exclusive" in one process at a time, or move it to a local disk'
        )


class StreamDeleted(StoreError):
    """The stream was deleted.

    Attributes:
        stream: The stream's id.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.StreamDeleted("account-a").stream
        'account-a'
    """

    def __init__(self, stream: str) -> None:
        """Build the error from the stream."""
        self.stream = stream
        super().__init__(f"the stream {stream!r} was deleted; use a new stream id")


class InvalidStreamId(InvalidArgument):
    """A stream id that isn't 1 to 255 bytes of UTF-8 without control characters.

    Ids that begin with ``$`` are reserved for the library: appends to them are refused.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     store.version("")
        Traceback (most recent call last):
        eventbraid.errors.InvalidStreamId: invalid stream ...
    """
