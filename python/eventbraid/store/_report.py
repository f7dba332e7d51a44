"""What a store says about itself."""

from __future__ import annotations

from dataclasses import dataclass


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
        groups: Writes to the disk; each may carry many commits.
        fsyncs: Times the disk was told to keep what was written.
        conflicts: Appends refused because of an expectation.
        replays: Appends answered by their idempotency key.
        cache_hits: Reads of log blocks answered from memory.
        cache_misses: Reads of log blocks that went to the disk.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was read and found whole by a check of the log.

    Attributes:
        frames: Commits.
        events: Events.
        streams: Streams that have events.
        bytes: The size of what was checked, in bytes.

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
