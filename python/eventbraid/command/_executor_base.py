"""The part that `Executor` and `AsyncExecutor` share."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Never, TypeVar, cast

from eventbraid.command._command import Command
from eventbraid.command._decision import COMMIT_EVENTS_LIMIT
from eventbraid.command._executed import Executed
from eventbraid.command._execution import Execution, Terms
from eventbraid.command._execution_trace import ExecutionTrace
from eventbraid.command._fast_path import execute_fast
from eventbraid.command._fold_reading import FoldReading
from eventbraid.command._hook_calls import HookCalls
from eventbraid.command._hooks import ExecutionStart
from eventbraid.command._observed_port import ObservedPort
from eventbraid.command._queue import queues_of
from eventbraid.command._retry_policy import COMMAND_SCHEDULE
from eventbraid.command._state_cache import state_cache_of
from eventbraid.command._state_reading import StateReading
from eventbraid.command._stateful_command import StatefulCommand
from eventbraid.command._stream import Stream, without_state
from eventbraid.command._stream_loading import load_stream
from eventbraid.command._write import Write
from eventbraid.domain._invalid_value import shown_argument
from eventbraid.errors import InvalidArgument, LimitExceeded, StreamCondition
from eventbraid.event import EventDecoder, EventRegistry
from eventbraid.event._registry import default_registry
from eventbraid.store._duration import duration_seconds
from eventbraid.store._fork import PerProcess
from eventbraid.store._paging import LARGEST_NUMBER, checked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from eventbraid.command._any_command import AnyCommand
    from eventbraid.command._discovery import DiscoveryBounds
    from eventbraid.command._fast_path import FailedAttempt
    from eventbraid.command._hooks import ExecutionHooks
    from eventbraid.command._memory import EventMemory
    from eventbraid.command._port import Port
    from eventbraid.command._queue import StreamQueues
    from eventbraid.command._reading import Reading
    from eventbraid.command._retry_policy import RetryPolicy
    from eventbraid.command._state_cache import StateCache
    from eventbraid.command._stream_loading import StreamState
    from eventbraid.event import OnUndecodable
    from eventbraid.store import Expectation

S = TypeVar("S")
T = TypeVar("T")


def decoder_of(
    store: object, registry: EventRegistry | None, on_undecodable: OnUndecodable
) -> EventDecoder:
    """Return the decoder of an executor's events.

    Args:
        store: The store. Its registry is used if it was opened with one.
        registry: The registry that the caller gave, if any.
        on_undecodable: The policy for events that can't be decoded.

    Raises:
        InvalidArgument: The policy is invalid.
        InvalidEventType: Some version of an event type can't be read.
    """
    if registry is None:
        of_store: object = getattr(store, "registry", None)
        registry = of_store if isinstance(of_store, EventRegistry) else default_registry
    decoder = EventDecoder(registry=registry, on_undecodable=on_undecodable)
    registry.validate()
    return decoder


class ExecutionEngine:
    """Prepares the executions of one executor."""

    __slots__ = (
        "_bounds",
        "_decoder",
        "_hooks",
        "_memory",
        "_port",
        "_retry",
        "_retry_seconds",
        "_shared",
    )

    def __reduce__(self) -> Never:
        """Refuse to be pickled or copied, because waiting commands can't be copied."""
        raise TypeError(
            "an executor can't be pickled or copied; create another one with the store"
        )

    def __init__(
        self,
        port: Port,
        coordination: object,
        retry: RetryPolicy,
        retry_timeout: timedelta,
        bounds: DiscoveryBounds,
        memory: PerProcess[EventMemory],
        decoder: EventDecoder,
        state_cache_bytes: int,
        hooks: Iterable[ExecutionHooks],
    ) -> None:
        """Prepare for the commands of one executor."""
        calls = HookCalls(hooks)
        self._hooks = calls if calls.hooks else None
        self._port = port
        self._retry = retry.schedule(COMMAND_SCHEDULE)
        self._retry_seconds = duration_seconds("retry_timeout", retry_timeout)
        self._bounds = bounds
        self._memory = memory
        self._decoder = decoder
        self._shared = PerProcess(
            partial(
                _shared,
                queues_of(coordination),
                state_cache_of(coordination, decoder),
                state_cache_bytes,
            )
        )

    @property
    def registry(self) -> EventRegistry:
        """The registry of the events."""
        return self._decoder.registry

    async def execute(
        self,
        command: AnyCommand,
        idempotency_key: str | None,
        metadata: Mapping[str, str] | None,
        also: Iterable[Write],
        expect: Mapping[str, Expectation] | None,
        deadline: timedelta | datetime | None,
        observed_port: Port | None = None,
    ) -> Executed:
        """Execute a command; see `Executor.execute`.

        Args:
            command: The command.
            idempotency_key: The key of the request.
            metadata: Further facts about each of the events.
            also: Further writes of the same commit.
            expect: Further expectations of the same commit.
            deadline: The time after which no attempt begins.
            observed_port: The port that measures this execution, whose start was
                reported. By default, the execution is reported if there are hooks.
        """
        if observed_port is not None:
            port = observed_port
        elif self._hooks is None:
            port = self._port
        else:
            subject = type(command)
            start = ExecutionStart("execute", subject, idempotency_key is not None)
            return await self._observed(
                ExecutionTrace(self._hooks, start),
                lambda port: self.execute(
                    command, idempotency_key, metadata, also, expect, deadline, port
                ),
            )
        begun_at = monotonic()
        failed: FailedAttempt | None = None
        if (
            isinstance(command, Command)
            and command.plain_streams is not None
            and idempotency_key is None
            and deadline is None
        ):
            queues, cache = self._shared.get()
            also = _checked_writes(also) if also else ()
            expect = _checked_expectations(expect) if expect else None
            done, failed = await execute_fast(
                command,
                metadata,
                also,
                expect,
                port,
                cache,
                queues,
                self._decoder,
            )
            # No function is called between the commit and the return: a signal handler
            # could raise an exception there, which would not be marked.
            if done is not None:
                return done
            if port.trace is not None:
                # The attempt continues below, perhaps after a wait for its turn.
                port.trace.enter(None)
        execution = self._execution(
            command, idempotency_key, metadata, also, expect, deadline, begun_at, port
        )
        return await execution.run(failed)

    async def load(
        self, stream: Stream[Any, S], observed_port: Port | None = None
    ) -> StreamState[S]:
        """Return the present state of a stream; see `Executor.load`.

        Args:
            stream: The stream.
            observed_port: As for `execute`.
        """
        if observed_port is not None:
            port = observed_port
        elif self._hooks is None:
            port = self._port
        else:
            start = ExecutionStart("load", type(stream))
            return await self._observed(
                ExecutionTrace(self._hooks, start),
                lambda port: self.load(stream, port),
            )
        if not isinstance(stream, Stream):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgument(
                "stream",
                shown_argument(stream),
                'give it by its kind: Account("account-alice")',
            )
        if not type(stream).has_state:
            raise InvalidArgument(
                "state of stream", stream.id, without_state(type(stream))
            )
        _, cache = self._shared.get()
        return await load_stream(stream, port, cache, self._decoder)

    async def _observed(
        self, trace: ExecutionTrace, execute: Callable[[Port], Awaitable[T]]
    ) -> T:
        """Execute something, and report it to the hooks.

        Args:
            trace: The trace of the execution.
            execute: Executes it with a port.
        """
        port = self._port
        failure: BaseException | None = None
        done: T | None = None
        try:
            if trace.begin():
                port = ObservedPort(port, trace)
            done = await execute(port)
        except BaseException as error:  # noqa: BLE001 - raised below
            failure = error
        # The hooks are called outside of the `except` block. Inside, a hook would find
        # the exception, with the values in its text and its frames, by `sys.exception`.
        is_committed = isinstance(done, Executed) or (
            failure is not None and "outcome_unknown" in failure.__dict__
        )
        try:
            try:
                trace.end(done if isinstance(done, Executed) else None, failure)
            except BaseException as interruption:
                if is_committed:
                    # Ctrl-C while a hook was called, after the commit of the command.
                    interruption.__dict__["outcome_unknown"] = True
                raise
            if failure is not None:
                raise failure
            return cast("T", done)
        finally:
            # The traceback of the exception refers to this frame: the cycle would stay
            # in memory until the garbage collector runs.
            del failure

    def _execution(
        self,
        command: AnyCommand,
        idempotency_key: str | None,
        metadata: Mapping[str, str] | None,
        also: Iterable[Write],
        expect: Mapping[str, Expectation] | None,
        deadline: timedelta | datetime | None,
        now: float,
        port: Port,
    ) -> Execution:
        """Validate the arguments, and return the execution of a command."""
        queues, cache = self._shared.get()
        give_up_at = now + self._retry_seconds
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
            port,
            queues,
            self._retry,
            self._reading(command, cache),
            self._decoder,
        )

    def _reading(self, command: AnyCommand, cache: StateCache) -> Reading:
        if isinstance(command, Command):
            return StateReading(command, self._bounds, cache, self._decoder)
        if isinstance(command, StatefulCommand):  # pyright: ignore[reportUnnecessaryIsInstance]
            memory = self._memory.get()
            return FoldReading(command, self._bounds, memory, cache, self._decoder)
        raise TypeError(
            f"{type(command).__name__} is no command; derive it from eventbraid.Command"
        )


def _shared(
    queues: PerProcess[StreamQueues], caches: PerProcess[StateCache], cache_bytes: int
) -> tuple[StreamQueues, StateCache]:
    """Return what all executors of a store share in this process.

    The cache has the size that the most generous executor demands.
    """
    cache = caches.get()
    cache.limit = max(cache.limit, cache_bytes)
    return queues.get(), cache


def _checked_writes(also: Iterable[object]) -> tuple[Write, ...]:
    # Take only one write more than the limit, so that the check below fails. Otherwise
    # an endless iterator would fill the memory.
    writes = tuple(itertools.islice(also, COMMIT_EVENTS_LIMIT + 1))
    if len(writes) > COMMIT_EVENTS_LIMIT:
        raise LimitExceeded("events of a commit", len(writes), COMMIT_EVENTS_LIMIT)
    for write in writes:
        if not isinstance(write, Write):
            raise InvalidArgument(
                "further write", shown_argument(write), "give a Write(stream, event)"
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
    # A deadline that has passed is a valid argument; the command then isn't attempted.
    return duration_seconds("deadline", deadline, minimum=timedelta.min)
