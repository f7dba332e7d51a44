"""Every error that Eventbraid raises, under one root.

Each message says what happened, to which stream or file, and what to do about it.
Each error carries its facts as attributes and survives pickling and copying, so it
can cross a process boundary and still be handled by its facts.

Example:
    >>> import eventbraid as eb
    >>> with eb.open("memory:") as store:
    ...     try:
    ...         store.append([("account-a", "opened", b"{}")], expect={"account-a": 3})
    ...     except eb.VersionConflict as conflict:
    ...         print(conflict.failures[0].actual)
    0
"""

from __future__ import annotations

import enum
import errno
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime
    from uuid import UUID

    _State = tuple[object, ...]

__all__ = [
    "AppendError",
    "CommandError",
    "CommandRejected",
    "ConflictedStream",
    "CoordinatorClosed",
    "CorruptStore",
    "DeadlineExceeded",
    "DiscoveryLimit",
    "EventDecodeError",
    "EventError",
    "EventbraidError",
    "GraphMismatch",
    "IdempotencyMismatch",
    "IncompatibleFormat",
    "InvalidArgument",
    "InvalidEventType",
    "InvalidSaga",
    "InvalidStreamId",
    "InvalidTransition",
    "InvalidValue",
    "LeaseError",
    "LeaseHeld",
    "LeaseLost",
    "LimitExceeded",
    "NotAStore",
    "OutcomeUnknown",
    "RetriesExhausted",
    "SagaBlocked",
    "SagaError",
    "SagaExists",
    "SagaNotFound",
    "SharingUnsupported",
    "StorageFull",
    "StoreBusy",
    "StoreClosed",
    "StoreDetached",
    "StoreError",
    "StorePoisoned",
    "StoreUnavailable",
    "StoreUnusable",
    "StreamCondition",
    "StreamDeleted",
    "UndeclaredStream",
    "UnknownEventType",
    "VersionConflict",
]


_SHOWN = 8


class StreamCondition(enum.Enum):
    """What an append may demand of a stream besides an exact version.

    The members are exported as ``eventbraid.ANY``, ``eventbraid.NO_STREAM`` and
    ``eventbraid.EXISTS``.

    Example:
        >>> import eventbraid as eb
        >>> eb.NO_STREAM
        NO_STREAM
    """

    ANY = "any"
    """Whatever the stream's version is."""

    NO_STREAM = "no_stream"
    """The stream has no events yet (version 0)."""

    EXISTS = "exists"
    """The stream has at least one event."""

    def __repr__(self) -> str:
        """Return the name under which the package exports the member."""
        return self.name


class EventbraidError(Exception):
    """The root of all errors raised by Eventbraid.

    Attributes:
        message: The text of the error.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         store.append([])
        ...     except eb.EventbraidError as error:
        ...         print(type(error).__name__)
        InvalidArgument
    """

    def __init__(self, message: str) -> None:
        """Make an error with a text for the reader."""
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        """Return the text, whatever else a built-in base class would print."""
        return self.message

    def __reduce__(self) -> tuple[Callable[..., object], _State]:
        """Restore by attributes, because subclasses have constructors of their own."""
        return _restore, (type(self), self.args, dict(self.__dict__))


_Error = TypeVar("_Error", bound=EventbraidError)


def _restore(
    kind: type[_Error], args: tuple[object, ...], facts: Mapping[str, object]
) -> _Error:
    """Make an unpickled error without calling its constructor."""
    error = kind.__new__(kind)
    error.args = args
    for name, value in facts.items():
        setattr(error, name, value)
    return error


_MAXIMUM_SHOWN = 200


def _shown(value: object) -> str:
    """Return the short form of a value, also of one that can't give its own."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - the rule said no, whatever it looked at
        return f"<{type(value).__name__}, whose repr() raises {type(error).__name__}>"
    return text if len(text) <= _MAXIMUM_SHOWN else f"{text[: _MAXIMUM_SHOWN - 1]}…"


# --- the base of each layer ----------------------------------------------------------


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


class AppendError(StoreError):
    """The base of the errors of one append; the store itself can still be used.

    Example:
        >>> import eventbraid as eb
        >>> issubclass(eb.VersionConflict, eb.AppendError)
        True
    """


class EventError(EventbraidError):
    """The base of the errors of typed events.

    Example:
        >>> import eventbraid as eb
        >>> issubclass(eb.errors.UnknownEventType, eb.EventError)
        True
    """


class CommandError(EventbraidError):
    """The base of the errors that the execution of a command raises.

    Example:
        >>> import eventbraid as eb
        >>> issubclass(eb.CommandRejected, eb.CommandError)
        True
    """


class LeaseError(EventbraidError):
    """The base of the errors of leases.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store, eb.Lease(store, "importer"):
        ...     try:
        ...         eb.Lease(store, "importer").__enter__()
        ...     except eb.LeaseError as error:
        ...         print(type(error).__name__)
        LeaseHeld
    """


class SagaError(EventbraidError):
    """The base of the errors of sagas.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         eb.saga.read_timeline(store, "saga-1")
        ...     except eb.SagaError as error:
        ...         print(type(error).__name__)
        SagaNotFound
    """


# --- appending -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConflictedStream:
    """One stream that did not meet the expectation of an append.

    Attributes:
        stream: The stream's id.
        expected: The exact version or the condition that was expected.
        actual: The version that the stream has (0 = no events).

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.ConflictedStream("account-a", expected=eb.EXISTS, actual=0)
        ConflictedStream(stream='account-a', expected=EXISTS, actual=0)
    """

    stream: str
    expected: int | StreamCondition
    actual: int

    def __str__(self) -> str:
        """Return the stream with its expected and its actual version."""
        expected = (
            f"version {self.expected}"
            if isinstance(self.expected, int)
            else self.expected.name
        )
        return f"{self.stream!r} (expected {expected}, is at version {self.actual})"


class VersionConflict(AppendError):
    """At least one stream did not meet its expectation. Nothing was written.

    The message names the first eight of the streams.

    Attributes:
        failures: Every failing stream, with its expected and its actual version.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         store.append([], expect={"order-1": eb.EXISTS})
        ...     except eb.VersionConflict as conflict:
        ...         print(conflict.failures)
        (ConflictedStream(stream='order-1', expected=EXISTS, actual=0),)
    """

    def __init__(self, failures: Iterable[ConflictedStream]) -> None:
        """Build the error from every stream that failed its check."""
        self.failures = tuple(failures)
        streams = ", ".join(map(str, self.failures[:_SHOWN]))
        if len(self.failures) > _SHOWN:
            streams += f" and {len(self.failures) - _SHOWN} more"
        remedies = dict.fromkeys(map(_remedy_for, self.failures))
        super().__init__(
            "; ".join(
                (f"nothing was written: conflict on {streams or 'a stream'}", *remedies)
            )
        )


def _remedy_for(failure: ConflictedStream) -> str:
    """Return the remedy: only some conflicts mean that other events came first."""
    if failure.expected is StreamCondition.EXISTS:
        return (
            "a stream that is expected to exist has no events: correct its id, or "
            "append its first event"
        )
    if isinstance(failure.expected, int) and failure.actual < failure.expected:
        return (
            "a stream has fewer events than expected: correct its id, or read its "
            "version again"
        )
    return "other events were appended first: read the streams again and decide anew"


class IdempotencyMismatch(AppendError):
    """An idempotency key was used before, for something else. Nothing was written.

    Attributes:
        key: The idempotency key.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("a", "x", b"1")], idempotency_key="k")
        ...     try:
        ...         store.append([("a", "x", b"2")], idempotency_key="k")
        ...     except eb.errors.IdempotencyMismatch as mismatch:
        ...         print(mismatch.key)
        k
    """

    def __init__(self, key: str) -> None:
        """Name the key that is already taken by other content."""
        self.key = key
        super().__init__(
            f"nothing was written: the idempotency key {key!r} already stands for "
            "other content; use a new key for a new request"
        )


class OutcomeUnknown(AppendError):
    """The store can't say whether the append happened.

    Retry with the same idempotency key, or look for the event ids.

    Attributes:
        reason: What went wrong.
        idempotency_key: The key of the append, if it had one.
        event_ids: The ids of the events that may have been written.

    Example:
        >>> import eventbraid as eb
        >>> eb.OutcomeUnknown("the disk failed", idempotency_key="k").idempotency_key
        'k'
    """

    def __init__(
        self,
        reason: str,
        *,
        idempotency_key: str | None = None,
        event_ids: Iterable[UUID] = (),
    ) -> None:
        """Build the error from the reason and the key by which to find out."""
        self.reason = reason
        self.idempotency_key = idempotency_key
        self.event_ids = tuple(event_ids)
        remedy = (
            "look for its event ids in the log"
            if idempotency_key is None
            else f"append again with the same key {idempotency_key!r}"
        )
        super().__init__(
            f"the append may or may not have happened ({reason}); "
            f"open the store again and {remedy}"
        )


# --- commands ------------------------------------------------------------------------


class UndeclaredStream(CommandError):
    """A command wrote to a stream that it neither declared nor discovered.

    Attributes:
        stream: The stream's id.
        command: The name of the command's class.
        declared: The streams that the command declared or discovered.

    Example:
        >>> import eventbraid as eb
        >>> error = eb.errors.UndeclaredStream("account-c", "Transfer", ["account-a"])
        >>> error.declared
        ('account-a',)
    """

    def __init__(self, stream: str, command: str, declared: Iterable[str] = ()) -> None:
        """Name the stream, the command, and the streams that it may write to."""
        self.stream = stream
        self.command = command
        self.declared = tuple(declared)
        shown = ", ".join(repr(name) for name in self.declared[:_SHOWN])
        more = ", ..." if len(self.declared) > _SHOWN else ""
        super().__init__(
            f"{command} wrote to {stream!r}, which it neither declared nor discovered "
            f"({shown or 'it has no streams'}{more}); "
            "declare a field for it, or return it from discover()"
        )


class DiscoveryLimit(CommandError):
    """A command's discovery asked for more rounds or streams than are allowed.

    Attributes:
        command: The name of the command's class.
        what: ``"rounds"``, ``"streams"``, or ``"requests in one round"``, which count
            streams that are known already.
        limit: How many are allowed.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.DiscoveryLimit("Transfer", "rounds", 16).limit
        16
    """

    def __init__(self, command: str, what: str, limit: int) -> None:
        """Name the command and the limit that it ran into."""
        self.command = command
        self.what = what
        self.limit = limit
        super().__init__(
            f"the discovery of {command} exceeds the limit of {limit} {what}; make "
            "discover() ask for fewer streams, or raise the executor's limit"
        )


class CommandRejected(CommandError):
    """A business rule said no. Nothing was written, and it isn't retried.

    Attributes:
        code: The rule's stable name, for programs.
        message: The text for people.
        facts: What the rule looked at.

    Example:
        >>> import eventbraid as eb
        >>> rejected = eb.CommandRejected("insufficient_funds", facts={"available": 3})
        >>> str(rejected), rejected.facts["available"]
        ('insufficient_funds (available=3)', 3)
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        """Build the error from the rule and the facts that it looked at."""
        self.code = code
        self.facts = dict(facts or {})
        listed = ", ".join(
            f"{name}={_shown(value)}" for name, value in self.facts.items()
        )
        super().__init__(message or (f"{code} ({listed})" if listed else code))


class RetriesExhausted(CommandError):
    """A command met conflicts on every attempt allowed. Nothing was written.

    Attributes:
        attempts: How many attempts were made.
        last: The last attempt's error.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.RetriesExhausted(5, eb.VersionConflict([])).attempts
        5
    """

    def __init__(self, attempts: int, last: EventbraidError) -> None:
        """Build the error from the number of attempts and the last failure."""
        self.attempts = attempts
        self.last = last
        super().__init__(
            f"gave up after {attempts} attempts; the last one failed: {last}; "
            "retry later, or allow more attempts by RetryPolicy.maximum_attempts, or "
            "more time by retry_timeout"
        )


class DeadlineExceeded(CommandError, TimeoutError):
    """A command was not done before its deadline. Nothing was written.

    Attributes:
        command: The name of the command's class.
        attempts: How many attempts were made.
        last: The last attempt's error; `None` if there was no attempt.

    Example:
        >>> import eventbraid as eb
        >>> isinstance(eb.errors.DeadlineExceeded("Transfer", 0), TimeoutError)
        True
    """

    def __init__(
        self, command: str, attempts: int, last: EventbraidError | None = None
    ) -> None:
        """Name the command, and how far it came."""
        self.command = command
        self.attempts = attempts
        self.last = last
        reason = "" if last is None else f"; the last one failed: {last}"
        super().__init__(
            f"the deadline of {command} passed after {attempts} attempts{reason}; "
            "give it more time, or try again later"
        )


# --- events and values ---------------------------------------------------------------


class UnknownEventType(EventError):
    """No class is registered for an event type.

    Attributes:
        type: The event type.
        version: The schema version.
        stream: The stream that such an event was read from, if any.
        position: That event's place in the log, if any.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.UnknownEventType("order.opened").version
        1
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the fact's name everywhere
        version: int = 1,
        stream: str | None = None,
        position: int | None = None,
    ) -> None:
        """Name the type, and the event that has it."""
        self.type = type
        self.version = version
        self.stream = stream
        self.position = position
        schema = "" if version == 1 else f" in schema version {version}"
        where = "" if stream is None else f" (in {stream!r}, position {position})"
        super().__init__(
            f"no class is registered for the event type {type!r}{schema}{where}; "
            "import the module that defines it, or read the event's raw data"
        )


class EventDecodeError(EventError):
    """The data of a recorded event isn't what its class demands.

    Attributes:
        type: The event type.
        stream: The stream's id.
        position: The event's place in the log.
        reason: What doesn't fit.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.EventDecodeError("opened", "account-a", 7, "not JSON").position
        7
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the fact's name everywhere
        stream: str,
        position: int,
        reason: str,
    ) -> None:
        """Build the error from the event and the reason."""
        self.type = type
        self.stream = stream
        self.position = position
        self.reason = reason
        super().__init__(
            f"the {type!r} event at position {position} in {stream!r} can't be "
            f"decoded: {reason}; its raw data can still be read"
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


class InvalidValue(EventbraidError, ValueError):
    """A domain value broke its own rule, so it was not made.

    Attributes:
        type: The name of the value's class, or ``event.field``.
        value: The refused value, shown and shortened.
        bound: The rule that it breaks.
        remedy: What to do instead.

    Example:
        >>> import eventbraid as eb
        >>> raise eb.InvalidValue("Money", "-1", "it must be >= 0", "give 0")
        Traceback (most recent call last):
        eventbraid.errors.InvalidValue: -1 is not a valid Money: it must be >= 0; give 0
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the fact's name everywhere
        value: str,
        bound: str,
        remedy: str,
    ) -> None:
        """Name the type, the value, the rule, and what to do."""
        self.type = type
        self.value = value
        self.bound = bound
        self.remedy = remedy
        super().__init__(f"{value} is not a valid {type}: {bound}; {remedy}")


class InvalidArgument(EventbraidError, ValueError):
    """An argument that no store could accept. Nothing was written.

    Attributes:
        what: The thing that is wrong, such as ``"idempotency key"``.
        value: The value, shortened.
        reason: What is wrong with it.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         store.append([])
        ...     except eb.errors.InvalidArgument as error:
        ...         print(isinstance(error, ValueError))
        True
    """

    def __init__(self, what: str, value: str, reason: str) -> None:
        """Name the thing, its value, and what is wrong with it."""
        self.what = what
        self.value = value
        self.reason = reason
        super().__init__(f"invalid {what} {value!r}: {reason}")


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


class InvalidEventType(EventError, InvalidArgument):
    """An event type that isn't 1 to 255 bytes of UTF-8.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     store.append([("account-a", "", b"")])
        Traceback (most recent call last):
        eventbraid.errors.InvalidEventType: invalid event type ...
    """


class LimitExceeded(InvalidArgument):
    """Something is larger than a store accepts. Nothing was written.

    Attributes:
        actual: The size that was given.
        limit: The largest size that is accepted.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         store.append([("account-a", "opened", bytes(9 * 2**20))])
        ...     except eb.errors.LimitExceeded as error:
        ...         print(error.actual > error.limit)
        True
    """

    def __init__(self, what: str, actual: int, limit: int) -> None:
        """Name the thing, its size, and the largest size accepted."""
        self.actual = actual
        self.limit = limit
        super().__init__(what, str(actual), f"the limit is {limit}")
        subject = what.removeprefix("the ")
        self.message = f"the {subject} exceed the limit of {limit}: {actual}"


# --- the store itself ----------------------------------------------------------------


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


class LeaseHeld(LeaseError):
    """Another holder has the lease.

    Attributes:
        lease: The lease's name.
        holder: The holder: its program, process id and machine.
        since: The time at which it was acquired; None if that isn't known.
        heartbeat_age: The seconds since the holder's last heartbeat.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store, eb.Lease(store, "importer"):
        ...     try:
        ...         with eb.Lease(store, "importer"):
        ...             pass
        ...     except eb.LeaseHeld as error:
        ...         print(error.lease)
        importer
    """

    def __init__(
        self, lease: str, holder: str, since: datetime | None, heartbeat_age: float
    ) -> None:
        """Name the lease and its holder."""
        self.lease = lease
        self.holder = holder
        self.since = since
        self.heartbeat_age = heartbeat_age
        when = "" if since is None else f" since {since.isoformat(timespec='seconds')}"
        super().__init__(
            f"lease {lease!r} is held by {holder}{when}; its last heartbeat was "
            f"{heartbeat_age:.1f} s ago: wait for the lease with wait=, or end that "
            "process"
        )


class LeaseLost(LeaseError):
    """Another holder acquired the lease in the meantime; nothing was written.

    Attributes:
        lease: The lease's name.
        token: The fencing token of the append that was refused.
        actual: The version of the lease's stream.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.LeaseLost("importer", 3, 4).token
        3
    """

    def __init__(self, lease: str, token: int, actual: int) -> None:
        """Name the lease, the token and the actual version."""
        self.lease = lease
        self.token = token
        self.actual = actual
        super().__init__(
            f"lease {lease!r} was lost to another holder: its fencing token was "
            f"{token} and is {actual}; nothing was written: stop the work that the "
            "lease protects"
        )


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


def _store_of(file: str) -> str:
    """Return the store's directory: a file is in it, or in its folder ``log``."""
    folder = PurePath(file).parent
    return str(folder.parent if folder.name == "log" else folder)


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

    def __reduce__(self) -> tuple[Callable[..., object], _State]:
        """Keep ``errno`` too, which lives outside of the attributes' dictionary."""
        facts = {**self.__dict__, "errno": self.errno}
        return _restore, (type(self), self.args, facts)


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

    def __reduce__(self) -> tuple[Callable[..., object], _State]:
        """Keep ``errno`` too, which lives outside of the attributes' dictionary."""
        facts = {**self.__dict__, "errno": self.errno}
        return _restore, (type(self), self.args, facts)


# --- sagas ---------------------------------------------------------------------------


class InvalidSaga(SagaError, ValueError):
    """A saga was declared in a way that can't work. Raised when it is built.

    Attributes:
        step: The step that is wrong, if it is one.

    Example:
        >>> import eventbraid as eb
        >>> try:
        ...     eb.Saga("empty", int, steps=[])
        ... except eb.errors.InvalidSaga as error:
        ...     print(error)
        saga 'empty' has no steps; give it at least one
    """

    def __init__(self, message: str, *, step: str | None = None) -> None:
        """Build the error from the reason and the remedy."""
        self.step = step
        super().__init__(message)


class InvalidTransition(SagaError):
    """A saga's record that doesn't follow from what was recorded before.

    Attributes:
        saga_id: The saga's id.
        status: The status that the saga has.
        event: The type of the refused record.
        reason: Why it can't follow.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.InvalidTransition(
        ...     "saga-1", "completed", "StepStarted", "over"
        ... ).status
        'completed'
    """

    def __init__(self, saga_id: str, status: str, event: str, reason: str) -> None:
        """Name the saga, its status and the record that can't follow."""
        self.saga_id = saga_id
        self.status = status
        self.event = event
        self.reason = reason
        super().__init__(
            f"saga {saga_id!r} is {status}, so {event!r} can't be recorded: {reason}"
        )


class SagaNotFound(SagaError):
    """No saga was started under an id.

    Attributes:
        saga_id: The id.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         eb.saga.read_timeline(store, "saga-1")
        ...     except eb.errors.SagaNotFound as error:
        ...         print(error.saga_id)
        saga-1
    """

    def __init__(self, saga_id: str) -> None:
        """Name the id."""
        self.saga_id = saga_id
        super().__init__(
            f"there is no saga {saga_id!r} in this store; check the id, or start it"
        )


class SagaExists(SagaError):
    """The id is taken, by a saga with another input or by another stream.

    Attributes:
        saga_id: The id.
        reason: What stands there.

    Example:
        >>> import eventbraid as eb
        >>> print(eb.errors.SagaExists("saga-1", "it was started with another state"))
        nothing was started: 'saga-1' is taken (it was started with another state); ...
    """

    def __init__(self, saga_id: str, reason: str) -> None:
        """Name the id and what it is taken by."""
        self.saga_id = saga_id
        self.reason = reason
        super().__init__(
            f"nothing was started: {saga_id!r} is taken ({reason}); use another id"
        )


class SagaBlocked(SagaError):
    """This program can't drive a saga that the log holds. Nothing is lost.

    Attributes:
        saga_id: The saga's id.
        saga: The saga's name.
        version: The version of its graph.
        reason: What is missing.

    Example:
        >>> import eventbraid as eb
        >>> print(
        ...     eb.errors.SagaBlocked(
        ...         "saga-1", "ship", 2, "needs_code: give its declaration"
        ...     )
        ... )
        saga 'saga-1' ('ship' version 2) is blocked: needs_code: give its declaration
    """

    def __init__(self, saga_id: str, saga: str, version: int, reason: str) -> None:
        """Name the saga and what this program lacks for it."""
        self.saga_id = saga_id
        self.saga = saga
        self.version = version
        self.reason = reason
        super().__init__(
            f"saga {saga_id!r} ({saga!r} version {version}) is blocked: {reason}"
        )


class GraphMismatch(SagaError):
    """Unfinished sagas were started with other steps under the same version.

    Attributes:
        saga: The saga's name.
        version: The version that stands for both graphs.
        saga_ids: Unfinished sagas with the other graph.
        difference: How the graphs differ, by the names of their steps.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.GraphMismatch(
        ...     "ship", 1, ["saga-1"], ["removed 'pack'"]
        ... ).difference
        ("removed 'pack'",)
    """

    def __init__(
        self,
        saga: str,
        version: int,
        saga_ids: Iterable[str],
        difference: Iterable[str],
    ) -> None:
        """Name the saga, its unfinished instances, and how the graphs differ."""
        self.saga = saga
        self.version = version
        self.saga_ids = tuple(saga_ids)
        self.difference = tuple(difference)
        super().__init__(
            f"{len(self.saga_ids)} unfinished sagas of {saga!r} version {version} were "
            f"started with other steps (first: {self.saga_ids[0]!r}): "
            f"{'; '.join(self.difference)}; give the new graph a new version, or "
            "finish them with the old program"
        )


class CoordinatorClosed(SagaError):
    """The coordinator isn't running, so the saga can't be driven here.

    What was recorded stays; the next coordinator resumes it.

    Example:
        >>> import eventbraid as eb
        >>> isinstance(eb.errors.CoordinatorClosed(), eb.SagaError)
        True
    """

    def __init__(self, message: str = "") -> None:
        """Build the error, with the remedy."""
        super().__init__(
            message
            or "the saga coordinator isn't running; use it as `async with "
            "SagaCoordinator(...)`, and wait for results inside of the block"
        )
