"""Append the commits, many in flight at once.

One commit at a time would wait for one sync of the disk each. With many in flight, the
store writes all waiting commits in one batch with a single sync. No thread is needed
for them.

They are appended in order, so a load that was killed has stored the first commits, each
of them whole. The next load appends all commits again under the same keys: the store
replays those that it has and stores the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anyio

import eventbraid as eb

from .history import KEY, Commit, Plan

_EVENTS_IN_FLIGHT = 8_192
_FEWEST_LANES, _MOST_LANES = 4, 256


@dataclass(slots=True)
class Loaded:
    """The result of a load.

    Attributes:
        commits: The number of commits that it stored.
        events: The number of events in these.
        commits_before: The number of commits that an earlier load had stored.
        seconds: The duration.
        making_seconds: The part of it that Python needed to build the events.
    """

    commits: int = 0
    events: int = 0
    commits_before: int = 0
    seconds: float = 0.0
    making_seconds: float = 0.0

    def count(self, commit: Commit, done: eb.Appended) -> None:
        """Count a commit that was acknowledged."""
        if done.replayed:
            self.commits_before += 1
        else:
            self.commits += 1
            self.events += len(commit.events)


Acknowledge = Callable[[Commit], None]
"""Called with each commit as soon as the store has acknowledged it."""


async def load(
    store: eb.AsyncEventStore,
    plan: Plan,
    *,
    in_flight: int,
    acknowledge: Acknowledge,
) -> Loaded:
    """Append all commits of a plan; those that are stored already are not repeated.

    Args:
        store: The store.
        plan: The purchases, and the size of a commit.
        in_flight: The maximum number of commits in flight.
        acknowledge: Called with each commit as soon as it is durable.

    Raises:
        IdempotencyMismatch: The load in this store was begun with another plan.
        EventbraidError: An append failed.
    """
    # Without events, only for the key: the log then has the plan, and the store refuses
    # another one.
    await store.append([], idempotency_key=KEY, content=plan.content)
    loaded = Loaded()
    commits = _timed(plan.commits(), loaded)

    async def append_one_after_the_other() -> None:
        for commit in commits:
            done = await store.append(
                commit.events, expect=commit.expect, idempotency_key=commit.key
            )
            loaded.count(commit, done)
            acknowledge(commit)

    began = time.perf_counter()
    try:
        async with anyio.create_task_group() as lanes:
            for _ in range(in_flight):
                lanes.start_soon(append_one_after_the_other)
    except ExceptionGroup as failures:
        # The first failure cancels the other tasks, so it is the cause.
        raise failures.exceptions[0] from failures
    loaded.seconds = time.perf_counter() - began
    return loaded


def usual_in_flight(commit_size: int) -> int:
    """Return the number of commits in flight: many small ones share a sync.

    Example:
        >>> [usual_in_flight(size) for size in (1, 100, 1_000, 10_000)]
        [256, 81, 8, 4]
    """
    return max(_FEWEST_LANES, min(_MOST_LANES, _EVENTS_IN_FLIGHT // commit_size))


def _timed(commits: Iterator[Commit], loaded: Loaded) -> Iterator[Commit]:
    began = time.perf_counter()
    for commit in commits:
        loaded.making_seconds += time.perf_counter() - began
        yield commit
        began = time.perf_counter()
