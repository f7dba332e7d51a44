"""The errors of a store, apart from those of one append."""

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
    """The base of the errors after which a store can't be used, for now or for good.

    Nothing that was committed is lost. A program that catches it stops what it does on
    this store: it closes it, and opens it again once the cause is removed.

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

    Opening raises it, at once, if one of the two wants the store exclusively; if the
    one process that has the store doesn't answer within ``lock_timeout``, because it
    was stopped in a debugger for example; or if that process runs a version of
    Eventbraid that shares stores by another protocol. An append raises it if another
    process has held a lock of the log for longer than ``lock_timeout``. Close the store
    there, or open it in both with ``mode="shared"``; resume or end a suspended process;
    then try again.

    Attributes:
        path: The path of the store.
        holder: Who holds it, as far as is known.

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
        """Name the store and its holder."""
        self.path = path
        self.holder = holder
        super().__init__(
            f"{path!r} is in use by {holder}; nothing was written; close it there, or "
            'open it in both with mode="shared", and try again'
        )


class StoreDetached(StoreUnusable):
    """The files at the store's path are no longer those that this program has open.

    The directory, or a symbolic link above it, was moved, removed or replaced while the
    store was open, another store is at its path, or a file by which the processes of a
    store coordinate was deleted or changed. Nothing was written; what was acknowledged
    before is safe, in the directory that was opened, wherever it is now.

    A program that moves, removes or restores files of a store, such as a deployment, a
    backup or a clean-up of temporary folders, must not run while the store is open.

    Attributes:
        path: The path.
        reason: What happened to it.
        remedy: What to do.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.StoreDetached("shop.braid/coord.shm", "it was deleted").reason
        'it was deleted'
    """

    def __init__(
        self,
        path: str,
        reason: str,
        remedy: str = "this opening writes nothing more; close the store in every "
        "process and open it again",
    ) -> None:
        """Name the path, what happened to it, and what to do."""
        self.path = path
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{path!r}: {reason}; nothing was written; {remedy}")


class StorePoisoned(StoreUnusable):
    """The disk refused to keep what was written, so the store takes nothing more.

    Reads of what is durable go on. Close the store and open it again: it then goes on
    in a new file, after the last commit that is known to be durable. An append that
    raised `OutcomeUnknown` is not in it; retry it with the same idempotency key.

    Attributes:
        reason: What the disk said.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.StorePoisoned("input/output error").reason
        'input/output error'
    """

    def __init__(self, reason: str) -> None:
        """Build the error from what the system reported."""
        self.reason = reason
        super().__init__(
            f"the store takes no more appends, because the disk failed: {reason}; "
            "check the disk, then close the store and open it again; it goes on after "
            "the last commit that is known to be durable"
        )


class CorruptStore(StoreUnusable):
    """Acknowledged data is damaged. Nothing was changed.

    Attributes:
        file: The damaged file.
        offset: Where in the file, in bytes.
        reason: What is wrong there.
        remedy: What to do about it.

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
            f"run `eventbraid verify {_store_of(file)}` to see how much is sound; keep "
            "a copy of the directory as it is, then restore it from a backup"
        )
        super().__init__(
            f"{file!r} is damaged at byte {offset}: {reason}; {self.remedy}"
        )


def _store_of(file: str) -> str:
    """Return the store's directory: a file is in it, or in its folder ``log``."""
    folder = PurePath(file).parent
    return str(folder.parent if folder.name == "log" else folder)


class StorageFull(StoreUnusable, OSError):
    """There is no space left. Nothing was written; reads go on.

    An append may be tried again, and so may an opening. A store that says so when it is
    closed is closed: everything acknowledged is durable, and the next opening finds it.

    Attributes:
        path: The path of the file that could not grow.
        reason: What the system said.
        remedy: What to do.

    Example:
        >>> import errno
        >>> import eventbraid as eb
        >>> eb.errors.StorageFull("shop.braid/log/1", "disk full").errno == errno.ENOSPC
        True
    """

    def __init__(self, path: str, reason: str, remedy: str | None = None) -> None:
        """Name the file, what the system said and what to do."""
        self.path = path
        self.reason = reason
        self.remedy = remedy or "free some space and append again"
        super().__init__(f"no space left for {path!r} ({reason}); {self.remedy}")
        self.errno = errno.ENOSPC

    def __reduce__(self) -> tuple[Callable[..., object], State]:
        """Keep ``errno`` too, which lives outside of the attributes' dictionary."""
        facts = {**self.__dict__, "errno": self.errno}
        return restore, (type(self), self.args, facts)


class StoreUnavailable(StoreUnusable, OSError):
    """The system refused to open, read or write a file of the store.

    Attributes:
        path: The path of the file.
        operation: What was tried, such as ``"open"``.
        reason: What the system said.

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
        """Name the file, the operation and what the system said.

        Args:
            path: The path of the file.
            operation: What was tried.
            reason: What the system said.
            code: The system's error number, kept as ``errno``.
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
        """Keep ``errno`` too, which lives outside of the attributes' dictionary."""
        facts = {**self.__dict__, "errno": self.errno}
        return restore, (type(self), self.args, facts)


class NotAStore(StoreError):
    """The path doesn't hold an event store, and none may be made there.

    Attributes:
        path: The path.
        reason: What was found instead.

    Example:
        >>> import eventbraid as eb
        >>> try:
        ...     eb.open("nothing-here", create=False)
        ... except eb.errors.NotAStore as error:
        ...     print(error.path)
        nothing-here
    """

    def __init__(self, path: str, reason: str) -> None:
        """Name the path and what was found there."""
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
        """Name the file and both formats."""
        self.path = path
        self.found = found
        self.supported = supported
        super().__init__(
            f"{path!r} has format {found}, but this version reads formats up to "
            f"{supported}; open it with a version of Eventbraid that knows it"
        )


class SharingUnsupported(StoreError):
    """Several processes can't safely share a store at this place. Nothing was changed.

    A network file system, or a folder that a virtual machine shares with its host,
    shows files to machines that don't see each other's locks. Open the store with
    ``mode="exclusive"``, in one process at a time, or put it on a local disk.

    Attributes:
        path: The path of the store.
        reason: Why not, such as the kind of file system.

    Example:
        >>> import eventbraid as eb
        >>> print(eb.errors.SharingUnsupported("shop.braid", "it is on NFS"))
        several processes can't share 'shop.braid': it is on NFS; ...
    """

    def __init__(self, path: str, reason: str) -> None:
        """Name the store and why it can't be shared."""
        self.path = path
        self.reason = reason
        super().__init__(
            f"several processes can't share {path!r}: {reason}; open it with "
            'mode="exclusive" in one process at a time, or put it on a local disk'
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
        """Name the stream."""
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
