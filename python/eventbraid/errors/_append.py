"""The errors of one append."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventbraid.errors._base import MAXIMUM_LISTED
from eventbraid.errors._store import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID


class AppendError(StoreError):
    """The base of the errors of one append; the store itself can still be used.

    Example:
        >>> import eventbraid as eb
        >>> issubclass(eb.VersionConflict, eb.AppendError)
        True
    """


class StreamCondition(enum.Enum):
    """A condition that an append may expect of a stream, instead of an exact version.

    The members are exported as ``eventbraid.ANY``, ``eventbraid.NO_STREAM`` and
    ``eventbraid.EXISTS``.

    Example:
        >>> import eventbraid as eb
        >>> eb.NO_STREAM
        NO_STREAM
    """

    ANY = "any"
    """The stream may have any version."""

    NO_STREAM = "no_stream"
    """The stream has no events yet (version 0)."""

    EXISTS = "exists"
    """The stream has at least one event."""

    def __repr__(self) -> str:
        """Return the name under which the package exports the member."""
        return self.name


@dataclass(frozen=True, slots=True)
class ConflictedStream:
    """One stream whose version contradicts the expectation of an append.

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


@dataclass(frozen=True, slots=True)
class ConflictedCategory:
    """One category whose version contradicts the expectation of an append.

    The version of a category is the number of its streams.

    Attributes:
        category: The category.
        expected: The exact version or the condition that was expected.
        actual: The version that the category has (0 = no streams).

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.ConflictedCategory("account", expected=3, actual=4)
        ConflictedCategory(category='account', expected=3, actual=4)
    """

    category: str
    expected: int | StreamCondition
    actual: int

    def __str__(self) -> str:
        """Return the category with its expected and its actual number of streams."""
        expected = (
            f"{self.expected} streams"
            if isinstance(self.expected, int)
            else self.expected.name
        )
        return f"category {self.category!r} (expected {expected}, has {self.actual})"


class VersionConflict(AppendError):
    """The version of a stream or a category contradicts the expectation of an append.

    Nothing was written. The message names the first eight of them.

    Attributes:
        failures: All such streams, with their expected and actual versions.
        categories: All such categories, with their expected and actual versions.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         store.append([], expect={"order-1": eb.EXISTS})
        ...     except eb.VersionConflict as conflict:
        ...         print(conflict.failures)
        (ConflictedStream(stream='order-1', expected=EXISTS, actual=0),)
    """

    def __init__(
        self,
        failures: Iterable[ConflictedStream],
        categories: Iterable[ConflictedCategory] = (),
    ) -> None:
        """Build the error from the streams and the categories."""
        self.failures = tuple(failures)
        self.categories = tuple(categories)
        failing = (*self.failures, *self.categories)
        names = ", ".join(map(str, failing[:MAXIMUM_LISTED]))
        if len(failing) > MAXIMUM_LISTED:
            names += f" and {len(failing) - MAXIMUM_LISTED} more"
        remedies = dict.fromkeys(
            (
                *map(_remedy_for, self.failures),
                *map(_remedy_for_category, self.categories),
            )
        )
        super().__init__(
            "; ".join(
                (f"nothing was written: conflict on {names or 'a stream'}", *remedies)
            )
        )


def _remedy_for(failure: ConflictedStream) -> str:
    """Return the remedy, which depends on the kind of the conflict."""
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


def _remedy_for_category(failure: ConflictedCategory) -> str:
    if failure.expected is StreamCondition.EXISTS:
        return (
            "a category that is expected to exist has no streams: correct its name, or "
            "append the first event of a stream"
        )
    if isinstance(failure.expected, int) and failure.actual < failure.expected:
        return (
            "a category has fewer streams than expected: correct its name, or read it "
            "again"
        )
    return "other streams were created first: read the category again and decide anew"


class IdempotencyMismatch(AppendError):
    """An idempotency key was used before with other content. Nothing was written.

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
        """Build the error from the key."""
        self.key = key
        super().__init__(
            f"nothing was written: the idempotency key {key!r} was already used with "
            "other content; use a new key for a new request"
        )


class OutcomeUnknown(AppendError):
    """The store can't determine whether the append was committed.

    Retry the append with the same idempotency key, or search the log for the event ids.

    Attributes:
        reason: The cause, such as an error of the disk.
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
        """Build the error from the cause, and from the key or ids of the append."""
        self.reason = reason
        self.idempotency_key = idempotency_key
        self.event_ids = tuple(event_ids)
        remedy = (
            "search the log for its event ids"
            if idempotency_key is None
            else f"append again with the same key {idempotency_key!r}"
        )
        super().__init__(
            f"the append may or may not have been committed ({reason}); "
            f"open the store again and {remedy}"
        )
