"""Append the commits, many in flight at once.

One commit at a time would measure how long a disk takes to flush: each waits for the
one before. With many in flight the store writes those that wait in one go and flushes
once for all of them, which is where its speed is. No thread is made for any of them.

They are appended in the order in which they are taken, so a load that was killed has
left the first so many, each whole. The next one appends all of them again under the
same keys: the store answers those that it has as before and stores the others.
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
    """What a load did.

    Attributes:
        commits: How many commits it stored.
        events: How many events these hold.
        commits_before: How many commits an earlier load had stored.
        seconds: How long it took.
        making_seconds: How much of it Python took to make the events.
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
    """Append all commits of a plan; those that are there are not stored again.

    Args:
        store: Where to.
        plan: What, and in commits of which size.
        in_flight: How many commits may be under way at once.
        acknowledge: Called with each commit as soon as it is durable.

    Raises:
        IdempotencyMismatch: If the load in this store was begun with another plan.
        EventbraidError: Whatever else an append raises.
    """
    # No event, only the key: the plan is kept in the log, and another one is refused.
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
        # When one lane fails the others are stopped: the first failure is the cause.
        raise failures.exceptions[0] from failures
    loaded.seconds = time.perf_counter() - began
    return loaded


def usual_in_flight(commit_size: int) -> int:
    """Choose how many commits are under way: many small ones share a flush.

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
