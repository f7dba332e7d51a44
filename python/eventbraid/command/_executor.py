"""Executors: the two faces of one execution."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Never, cast

from eventbraid.command._decision import COMMIT_EVENTS_LIMIT
from eventbraid.command._execution import Execution, Terms
from eventbraid.command._loop_port import LoopPort
from eventbraid.command._memory import EventMemory
from eventbraid.command._port import coordination_of
from eventbraid.command._queue import queues_of
from eventbraid.command._reading import DiscoveryBounds
from eventbraid.command._retry import RetryPolicy
from eventbraid.command._thread_port import ThreadPort
from eventbraid.command._write import Write
from eventbraid.domain._refusal import shown
from eventbraid.errors import InvalidArgument, LimitExceeded, StreamCondition
from eventbraid.store._coroutine import run_without_loop
from eventbraid.store._duration import duration_seconds
from eventbraid.store._fork import PerProcess
from eventbraid.store._paging import LARGEST_NUMBER, checked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventbraid.command._command import Command
    from eventbraid.command._executed import Executed
    from eventbraid.command._port import Port
    from eventbraid.store import AsyncStore, Expectation, Store

_DEFAULT_RETRY = RetryPolicy()
_DEFAULT_BOUNDS = DiscoveryBounds()


class Executor:
    """Executes commands on a store, blocking the calling thread.

    Any number of threads may use one executor, and any number of executors one store.

    Args:
        store: The store, open.
        retry: The policy by which commands are retried after conflicts.
        discovery_rounds: The maximum number of discovery rounds of a command.
        discovery_streams: The maximum number of streams that a command discovers.
        remembered_events: The maximum number of decoded events of long streams that
            are cached, so that they are decoded once.
        remembered_bytes: The maximum size of this cache, by estimate; a small event
            takes about 1 KB.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.counter.raised")
        ... class Raised: ...
        >>> class Counter(eb.Stream[Raised], category="counter"): ...
        >>> class Raise(eb.Command[int, Raised]):
        ...     counter: eb.Declared[Counter]
        ...
        ...     def initial(self):
        ...         return 0
        ...
        ...     def apply(self, state, recorded, /):
        ...         return state + 1
        ...
        ...     def decide(self, state, /):
        ...         eb.require(state < 3, "high_enough")
        ...         yield self.counter.write(Raised())
        >>> with eb.open("memory:") as store:
        ...     executor = eb.Executor(store, retry=eb.RetryPolicy(attempts=5))
        ...     executor.execute(Raise(counter="counter-1")).versions["counter-1"]
        1
    """

    def __init__(
        self,
        store: Store,
        *,
        retry: RetryPolicy = _DEFAULT_RETRY,
        discovery_rounds: int = _DEFAULT_BOUNDS.rounds,
        discovery_streams: int = _DEFAULT_BOUNDS.streams,
        remembered_events: int = 65_536,
        remembered_bytes: int = 64 * 2**20,
    ) -> None:
        """Execute on a store."""
        self._engine = _Engine(
            ThreadPort(store),
            coordination_of(store),
            retry,
            DiscoveryBounds(
                checked("discovery_rounds", discovery_rounds),
                checked("discovery_streams", discovery_streams),
            ),
            PerProcess(
                partial(
                    EventMemory,
                    checked("remembered_events", remembered_events),
                    checked("remembered_bytes", remembered_bytes),
                )
            ),
        )

    def execute(
        self,
        command: Command[Any, Any],
        /,
        *,
        idempotency_key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        also: Iterable[Write] = (),
        expect: Mapping[str, Expectation] | None = None,
        deadline: timedelta | datetime | None = None,
    ) -> Executed:
        """Read a command's streams, let it decide, and append its events.

        The append expects all declared and discovered streams at the versions that
        were read; after a conflict the command is executed again. With an idempotency
        key, a command that was executed before returns its first result.

        Args:
            command: The command.
            idempotency_key: The key of this request, 1 to 255 bytes of UTF-8. It
                identifies the command's class and fields.
            metadata: Further facts about each of the events; see `caused_by`.
            also: Further writes of the same commit.
            expect: Further expectations of the same commit. A conflict on one of these
                is raised without a retry.
            deadline: No attempt begins after it. A `datetime` needs a time zone.

        Returns:
            The events, their positions, and the new versions.

        Raises:
            CommandRejected: A business rule rejected the command. It isn't retried.
            RetriesExhausted: There was a conflict on every attempt.
            DeadlineExceeded: The deadline passed before the command was committed.
            VersionConflict: An expectation of `expect` failed.
            IdempotencyMismatch: The key was used for another command.
            UndeclaredStream: The command wrote to a stream that it neither declared nor
                discovered.
            DiscoveryLimit: The command discovers more than the limits allow.
            LimitExceeded: The command decided on more than one commit may contain.
            UnknownEventType: A stream has an event whose class isn't registered.
            EventDecodeError: A stream has an event that the command can't apply.
            InvalidArgument: The command decided on something that can't be appended.
            OutcomeUnknown: The store can't determine whether the commit happened.
        """
        execution = self._engine.execution(
            command, idempotency_key, metadata, also, expect, deadline
        )
        return run_without_loop(execution.run())


class AsyncExecutor:
    """Executes commands on a store in an event loop: asyncio, uvloop or trio.

    The documentation of `Executor` applies here, too. Any number of tasks may use one
    executor.

    Args:
        store: The store, open.
        retry: The policy by which commands are retried after conflicts.
        discovery_rounds: The maximum number of discovery rounds of a command.
        discovery_streams: The maximum number of streams that a command discovers.
        remembered_events: The maximum number of decoded events of long streams that
            are cached, so that they are decoded once.
        remembered_bytes: The maximum size of this cache, by estimate; a small event
            takes about 1 KB.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> @eb.event("doc.gauge.read")
        ... class GaugeRead: ...
        >>> class Gauge(eb.Stream[GaugeRead], category="gauge"): ...
        >>> class ReadGauge(eb.Command[None, GaugeRead]):
        ...     gauge: eb.Declared[Gauge]
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         yield self.gauge.write(GaugeRead())
        >>> async def main():
        ...     async with eb.open_async("memory:") as store:
        ...         executor = eb.AsyncExecutor(store)
        ...         done = await executor.execute(ReadGauge(gauge="gauge-1"))
        ...         print(done.last_position)
        >>> asyncio.run(main())
        1
    """

    def __init__(
        self,
        store: AsyncStore,
        *,
        retry: RetryPolicy = _DEFAULT_RETRY,
        discovery_rounds: int = _DEFAULT_BOUNDS.rounds,
        discovery_streams: int = _DEFAULT_BOUNDS.streams,
        remembered_events: int = 65_536,
        remembered_bytes: int = 64 * 2**20,
    ) -> None:
        """Execute on a store."""
        self._engine = _Engine(
            LoopPort(store),
            coordination_of(store),
            retry,
            DiscoveryBounds(
                checked("discovery_rounds", discovery_rounds),
                checked("discovery_streams", discovery_streams),
            ),
            PerProcess(
                partial(
                    EventMemory,
                    checked("remembered_events", remembered_events),
                    checked("remembered_bytes", remembered_bytes),
                )
            ),
        )

    async def execute(
        self,
        command: Command[Any, Any],
        /,
        *,
        idempotency_key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        also: Iterable[Write] = (),
        expect: Mapping[str, Expectation] | None = None,
        deadline: timedelta | datetime | None = None,
    ) -> Executed:
        """Read a command's streams, let it decide, and append what it decided.

        Args:
            command: The command.
            idempotency_key: As for `Executor.execute`.
            metadata: As for `Executor.execute`.
            also: As for `Executor.execute`.
            expect: As for `Executor.execute`.
            deadline: As for `Executor.execute`.

        Returns:
            The events, their positions, and the new versions.

        Raises:
            EventbraidError: As `Executor.execute` does.
        """
        execution = self._engine.execution(
            command, idempotency_key, metadata, also, expect, deadline
        )
        return await execution.run()


class _Engine:
    """The part that both executors share."""

    __slots__ = ("_bounds", "_memory", "_port", "_queues", "_retry", "_within")

    def __reduce__(self) -> Never:
        """Refuse to be pickled or copied: what waits in its queues can't be."""
        raise TypeError(
            "an executor can't be pickled or copied; create another one with the store"
        )

    def __init__(
        self,
        port: Port,
        coordination: object,
        retry: RetryPolicy,
        bounds: DiscoveryBounds,
        memory: PerProcess[EventMemory],
    ) -> None:
        self._port = port
        self._queues = queues_of(coordination)
        self._retry = retry
        self._within = retry.within.total_seconds()
        self._bounds = bounds
        self._memory = memory

    def execution(
        self,
        command: Command[Any, Any],
        idempotency_key: str | None,
        metadata: Mapping[str, str] | None,
        also: Iterable[Write],
        expect: Mapping[str, Expectation] | None,
        deadline: timedelta | datetime | None,
    ) -> Execution[Any]:
        now = self._port.now()
        give_up_at = now + self._within
        ends = None if deadline is None else now + _seconds_until(deadline)
        terms = Terms(
            idempotency_key=idempotency_key,
            metadata=metadata,
            also=_checked_writes(also) if also else (),
            expect=_checked_expectations(expect) if expect else None,
            deadline=ends,
            begun_at=now,
            give_up_at=give_up_at if ends is None else min(give_up_at, ends),
        )
        return Execution(
            command,
            terms,
            self._port,
            self._queues.get(),
            self._retry,
            self._bounds,
            self._memory.get(),
        )


def _checked_writes(also: Iterable[object]) -> tuple[Write, ...]:
    # An endless iterator would fill the memory before any check.
    writes = tuple(itertools.islice(also, COMMIT_EVENTS_LIMIT + 1))
    if len(writes) > COMMIT_EVENTS_LIMIT:
        raise LimitExceeded("events of a commit", len(writes), COMMIT_EVENTS_LIMIT)
    for write in writes:
        if not isinstance(write, Write):
            raise InvalidArgument(
                "further write", shown(write), "give a Write(stream, event)"
            )
    return cast("tuple[Write, ...]", writes)


def _checked_expectations(
    expect: Mapping[str, Expectation],
) -> Mapping[str, Expectation]:
    found = dict(expect)
    for stream, expected in found.items():
        if isinstance(expected, StreamCondition):
            continue
        if type(expected) is not int or not 0 <= expected <= LARGEST_NUMBER:
            found[stream] = checked("expectation", expected)
    return found


def _seconds_until(deadline: timedelta | datetime) -> float:
    if isinstance(deadline, datetime):
        if deadline.tzinfo is None:
            raise InvalidArgument(
                "deadline", str(deadline), "it has no time zone; use datetime.now(UTC)"
            )
        deadline -= datetime.now(UTC)
    # A deadline that has passed is a valid argument: the command is too late.
    return duration_seconds("deadline", deadline, minimum=timedelta.min)
