"""What a store says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMember:
    """One opening of a store that several may have open, as its process tells of it.

    What others have done is as of their last commit. It is a help for people: any
    program that may write to the store could have written it.

    Attributes:
        pid: The number of the process, as its own container counts.
        since: When it opened the store, in UTC.
        program: What runs there, shortened to 64 bytes.
        read_only: Whether it only looks.
        is_self: Whether it is the opening that was asked.
        appends: Appends that were asked for.
        commits: Appends that were written.
        events: Events that were written.
        groups: Writes of commits to the disk; each may carry many.
        fsyncs: Times the disk was told to keep what was written.
        conflicts: Appends refused because of an expectation.
        replays: Appends answered by their idempotency key.
        waits: Times it waited for another member to write or to sync.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("shop.braid") as store:
        ...     [(member.is_self, member.commits) for member in store.stats().members]
        [(True, 0)]
    """

    pid: int
    since: datetime
    program: str
    read_only: bool
    is_self: bool
    appends: int
    commits: int
    events: int
    groups: int
    fsyncs: int
    conflicts: int
    replays: int
    waits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """A store's counters. Sizes are of now; the rest is counted since it was opened.

    Attributes:
        head: The position of the last durable event.
        streams: How many streams have events.
        bytes: The size of the log's content, in bytes.
        segments: How many files the log has.
        appends: Appends that were asked for.
        commits: Appends that were written.
        events: Events that were written.
        groups: Writes of commits to the disk; each may carry many.
        fsyncs: Times the disk was told to keep what was written.
        conflicts: Appends refused because of an expectation.
        replays: Appends answered by their idempotency key.
        cache_hits: Reads of log blocks answered from memory.
        cache_misses: Reads of log blocks that went to the disk.
        poisoned: Whether the disk failed to keep what was written, so that nothing more
            is written until the store is closed and opened again.
        unproven: Bytes of log that follow what a store shows that was opened with
            ``read_only=True``; they may be commits. 0 otherwise.
        waits: Times that another process was waited for.
        clock_jumps: Times that the wall clock of this machine was found to have been
            set by more than ten seconds. A jump ahead by more than a day is not
            recorded: until the store is opened again, commits carry the time at which
            they would have been made without it.
        members: Who has the store open, this opening included; nobody if no other
            opening could come in, because it is in memory or exclusive.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("account-alice", "account.opened", b"{}")])
        ...     print(store.stats().streams)
        1
    """

    head: int
    streams: int
    bytes: int
    segments: int
    appends: int
    commits: int
    events: int
    groups: int
    fsyncs: int
    conflicts: int
    replays: int
    cache_hits: int
    cache_misses: int
    poisoned: bool = False
    unproven: int = 0
    waits: int = 0
    clock_jumps: int = 0
    members: tuple[StoreMember, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was read and found whole by a check of the log.

    Attributes:
        frames: Commits that were read.
        events: Events in them.
        streams: Streams that these events belong to.
        bytes: The size of what was checked, in bytes.
        quarantined: Files that recovery could not place in the log, and kept in the
            store's folder ``quarantine``.
        depth: ``"full"``, or ``"quick"`` if only the newest commits were read.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("account-alice", "account.opened", b"{}")])
        ...     print(store.verify().events)
        1
    """

    frames: int
    events: int
    streams: int
    bytes: int
    quarantined: int = 0
    depth: Literal["full", "quick"] = "full"


def stats_of(
    counters: Mapping[str, int], members: Iterable[tuple[str, Mapping[str, int]]]
) -> StoreStats:
    """Give what the native store tells of itself its types."""
    numbers = {name: n for name, n in counters.items() if name != "poisoned"}
    return StoreStats(
        **numbers,
        poisoned=bool(counters["poisoned"]),
        members=tuple(_member_of(program, told) for program, told in members),
    )


def _member_of(program: str, told: Mapping[str, int]) -> StoreMember:
    # A time that no calendar has must not keep anyone from seeing the rest.
    since = _EPOCH + timedelta(microseconds=min(told["since_micros"], _LATEST))
    flags = {name: bool(told[name]) for name in ("read_only", "is_self")}
    others = {n: told[n] for n in told if n != "since_micros" and n not in flags}
    return StoreMember(
        program=program,
        since=since,
        read_only=flags["read_only"],
        is_self=flags["is_self"],
        **others,
    )


def verified_of(counts: Mapping[str, int], *, quick: bool) -> Verified:
    """Say how deep the native store's check was."""
    return Verified(**counts, depth="quick" if quick else "full")
