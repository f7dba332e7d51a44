"""Counters of a store, its sessions, and the report of a verification."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSession:
    """One session of a store: an opening of the store by one process.

    The counters of other sessions are as of their last commit. They are a help for
    people, not evidence: any program that may write to the store could change them.

    Attributes:
        pid: The process id, in the process's own container.
        since: The time at which it opened the store, in UTC.
        program: The name of its program, shortened to 64 bytes.
        read_only: Whether it only reads.
        is_self: Whether it is the session that made this report.
        appends: Appends that were requested.
        commits: Appends that were written.
        events: Events that were written.
        write_batches: Writes to the log; each carries one or more commits.
        fsyncs: Syncs of the log to the disk.
        conflicts: Appends refused because of an expectation.
        replays: Appends answered by their idempotency key.
        waits: Waits for another session to write or to sync.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("shop.braid") as store:
        ...     [
        ...         (session.is_self, session.commits)
        ...         for session in store.stats().sessions
        ...     ]
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
    write_batches: int
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
        appends: Appends that were requested.
        commits: Appends that were written.
        events: Events that were written.
        write_batches: Writes to the log; each carries one or more commits.
        fsyncs: Syncs of the log to the disk.
        conflicts: Appends refused because of an expectation.
        replays: Appends answered by their idempotency key.
        cache_hits: Reads of log blocks answered from memory.
        cache_misses: Reads of log blocks that went to the disk.
        poisoned: Whether the disk failed to keep what was written, so that nothing more
            is written until the store is closed and opened again.
        unproven: Bytes of log that follow what a store shows that was opened with
            ``read_only=True``; they may be commits. 0 otherwise.
        waits: Waits for another session.
        clock_jumps: Times that the wall clock of this machine was found to have been
            set by more than ten seconds. A jump ahead by more than a day is not
            recorded: until the store is opened again, commits carry the time at which
            they would have been made without it.
        sessions: The sessions that have the store open, this one included; empty if
            the store can't be shared, because it is in memory or exclusive.

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
    write_batches: int
    fsyncs: int
    conflicts: int
    replays: int
    cache_hits: int
    cache_misses: int
    poisoned: bool = False
    unproven: int = 0
    waits: int = 0
    clock_jumps: int = 0
    sessions: tuple[StoreSession, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The counts of a verification that found no damage.

    Attributes:
        frames: Commits that were read.
        events: Events in them.
        streams: Streams that these events belong to.
        bytes: The size of the verified files, in bytes.
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
    counters: Mapping[str, int], sessions: Iterable[tuple[str, Mapping[str, int]]]
) -> StoreStats:
    """Build the report from the counters of the native store."""
    numbers = {name: n for name, n in counters.items() if name != "poisoned"}
    return StoreStats(
        **numbers,
        poisoned=bool(counters["poisoned"]),
        sessions=tuple(_session_of(program, facts) for program, facts in sessions),
    )


def _session_of(program: str, facts: Mapping[str, int]) -> StoreSession:
    # The page is writable for every session: a time out of range must not make the
    # whole report fail.
    since = _EPOCH + timedelta(microseconds=min(facts["since_micros"], _LATEST))
    flags = {name: bool(facts[name]) for name in ("read_only", "is_self")}
    others = {n: facts[n] for n in facts if n != "since_micros" and n not in flags}
    return StoreSession(
        program=program,
        since=since,
        read_only=flags["read_only"],
        is_self=flags["is_self"],
        **others,
    )


def verify_report_of(counts: Mapping[str, int], *, quick: bool) -> VerifyReport:
    """Build the report from the counts of the native store."""
    return VerifyReport(**counts, depth="quick" if quick else "full")
