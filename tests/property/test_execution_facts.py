"""An execution reports the same facts on each path, and with and without an event loop.

A command with a deadline takes the general path of its execution; the same command
without one takes the fast path as far as it can. Random commands on one history, with
conflicts, unknown outcomes, failures and dropped caches, have the same facts on both.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.command import AttemptEnd, ExecutionEnd
from eventbraid.testing import (
    AsyncFaultyStore,
    Conflict,
    Failure,
    FaultyStore,
    RecordedExecution,
    RecordingHooks,
    UnknownOutcome,
    on,
)

RETRY = eb.RetryPolicy(
    maximum_attempts=3, initial_delay=timedelta(), maximum_delay=timedelta()
)
DEADLINE = timedelta(minutes=10)


class Amount(eb.Int): ...


@eb.event("facts.added")
class Added:
    amount: Amount


class Sum(eb.Stream[Added, Amount], category="sum"):
    def initial(self) -> Amount:
        return Amount(0)

    def apply(self, state: Amount, event: Added, /) -> Amount:
        return state + event.amount


class Listing(eb.Stream[Added, list[int]], category="listing", snapshot_every=2):
    """A kind whose states are mutable, and have snapshots."""

    def initial(self) -> list[int]:
        return []

    def apply(self, state: list[int], event: Added, /) -> list[int]:
        return [*state, int(event.amount)]


class Add(eb.Command):
    target: eb.Declared[Sum]

    def decide(self) -> Iterator[eb.Write]:
        yield self.target.write(Added(Amount(1)))


class Move(eb.Command):
    source: eb.Declared[Sum]
    target: eb.Declared[Sum]
    listing: eb.Declared[Listing]

    def decide(self) -> Iterator[eb.Write]:
        eb.require(self.source.state > Amount(0), "empty")
        eb.require(len(self.listing.state) < 4, "full")
        yield self.source.write(Added(-self.source.state))
        yield self.target.write(Added(self.source.state))
        yield self.listing.write(Added(self.source.state))


class Look(eb.Command):
    source: eb.Declared[Sum]

    def decide(self) -> Iterable[eb.Write]:
        return ()


class Divide(eb.Command):
    source: eb.Declared[Sum]

    def decide(self) -> Iterator[eb.Write]:
        yield self.source.write(Added(Amount(6 // int(self.source.state))))


class Discover(eb.Command):
    """Adds to the sum that the state of another one selects."""

    source: eb.Declared[Sum]

    def discover(self) -> list[Sum]:
        return [Sum(f"sum-{self.source.state % Amount(3)}")]

    def decide(self) -> Iterator[eb.Write]:
        [found] = self.discover()
        yield self.discovered(found).write(Added(Amount(1)))


class Count(eb.StatefulCommand[int, Added]):
    """Folds a state of its own, and always takes the general path."""

    target: eb.Declared[Sum]

    def initial(self) -> int:
        return 0

    def apply(self, state: int, recorded: eb.Recorded[Added], /) -> int:
        return state + 1

    def decide(self, state: int, /) -> Iterator[eb.Write]:
        eb.require(state < 9, "full")
        yield self.target.write(Added(Amount(1)))


def sums() -> st.SearchStrategy[Sum]:
    return st.sampled_from([Sum("sum-1"), Sum("sum-2")])


COMMANDS: st.SearchStrategy[Any] = st.one_of(
    st.builds(Add, target=sums()),
    st.builds(
        Move, source=sums(), target=sums(), listing=st.just(Listing("listing-1"))
    ),
    st.builds(Look, source=sums()),
    st.builds(Divide, source=sums()),
    st.builds(Discover, source=sums()),
    st.builds(Count, target=sums()),
)
RIVAL = on(Sum("sum-1"), Added(Amount(1)))
FAULTS: st.SearchStrategy[Callable[[], Any] | None] = st.sampled_from(
    [
        None,
        None,
        lambda: Conflict(by=[RIVAL], times=1),
        lambda: Conflict(by=[RIVAL], times=2),
        lambda: Conflict(times=3),
        lambda: UnknownOutcome(committed=True, times=1),
        lambda: UnknownOutcome(committed=False, times=1),
        lambda: Failure(error=OSError, times=1),
    ]
)


@dataclass
class Step:
    """One command, and what happens before it.

    Attributes:
        command: The command.
        is_keyed: Whether it has an idempotency key.
        fault: A function that builds the fault of its appends.
        drops_cache: Whether the cached states are dropped before.
        has_rival: Whether another writer appends before, which the cache doesn't see.
    """

    command: Any
    is_keyed: bool
    fault: Callable[[], Any] | None
    drops_cache: bool
    has_rival: bool


STEPS = st.lists(
    st.builds(
        Step,
        command=COMMANDS,
        is_keyed=st.booleans(),
        fault=FAULTS,
        drops_cache=st.booleans(),
        has_rival=st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


async def settled(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def facts_of(
    steps: list[Step], inner: Any, kind: type[Any], make: type[Any], options: Any
) -> list[Any]:
    """Execute the steps, and return the facts of each execution that no clock makes."""
    hooks = RecordingHooks()
    found: list[Any] = []
    for number, step in enumerate(steps):
        store = kind(inner)
        executor = make(store, retry=RETRY, hooks=[hooks])
        if step.drops_cache:
            executor._engine._shared.get()[1].clear()
        if step.has_rival:
            await settled(inner.append([eb.new_event("sum-1", Added(Amount(1)))]))
        if step.fault is not None:
            store.inject(step.fault())
        keyed = {"idempotency_key": f"key-{number}"} if step.is_keyed else {}
        error: type[BaseException] | None = None
        try:
            await settled(executor.execute(step.command, **keyed, **options))
        except (eb.EventbraidError, OSError, ZeroDivisionError) as raised:
            error = type(raised)
        execution = hooks.executions[-1]
        validate(execution, error)
        found.append(comparable(execution))
    assert len(hooks.executions) == len(steps)
    return found


def validate(execution: RecordedExecution, error: type[BaseException] | None) -> None:
    end = execution.end
    assert end is not None
    assert end.error_type is error
    numbers = list(range(1, end.attempts + 1))
    assert [one.number for one in execution.attempt_starts] == numbers
    assert [one.number for one in execution.attempts] == numbers
    for one in execution.attempts[:-1]:
        assert one.outcome in ("conflict", "outcome_unknown")
        assert one.retry_delay_seconds == 0
    assert execution.attempts[-1].retry_delay_seconds is None


def comparable(execution: RecordedExecution) -> list[Any]:
    start = execution.start
    facts: list[Any] = [(start.operation, start.subject, start.is_keyed)]
    for fact in (*execution.attempts, execution.end):
        facts.append(
            {
                name: getattr(fact, name)
                for name in fact.__struct_fields__
                if name != "execution" and not name.endswith("seconds")
            }
        )
        if isinstance(fact, AttemptEnd):
            # A phase that the attempt didn't have took no time at all.
            facts.append([fact.append_seconds > 0, fact.lookup_seconds > 0])
        else:
            assert isinstance(fact, ExecutionEnd)
    return facts


def facts_without_loop(steps: list[Step], options: Any) -> list[Any]:
    with eb.open("memory:") as store:
        coroutine = facts_of(steps, store, FaultyStore, eb.Executor, options)
        try:
            coroutine.send(None)
        except StopIteration as done:
            found: list[Any] = done.value
            return found
        raise AssertionError("a synchronous execution has waited for an event loop")


async def facts_in_loop(steps: list[Step], options: Any) -> list[Any]:
    async with eb.open_async("memory:") as store:
        return await facts_of(steps, store, AsyncFaultyStore, eb.AsyncExecutor, options)


@given(STEPS)
def test_the_facts_are_the_same_on_each_path_and_in_a_loop(steps):
    fast = facts_without_loop(steps, {})
    assert facts_without_loop(steps, {"deadline": DEADLINE}) == fast
    assert asyncio.run(facts_in_loop(steps, {})) == fast
    assert asyncio.run(facts_in_loop(steps, {"deadline": DEADLINE})) == fast
