"""The executor of commands without an event loop."""

# Generated from _async_executor.py by scripts/generate_sync.py; don't edit it.

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from eventbraid.command._discovery import DiscoveryBounds
from eventbraid.command._executor_base import ExecutionEngine, decoder_of
from eventbraid.command._memory import EventMemory
from eventbraid.command._port import coordination_of
from eventbraid.command._retry_policy import RetryPolicy
from eventbraid.command._thread_port import ThreadPort
from eventbraid.store._coroutine import run_without_loop
from eventbraid.store._fork import PerProcess
from eventbraid.store._paging import checked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from eventbraid.command._any_command import AnyCommand
    from eventbraid.command._executed import Executed
    from eventbraid.command._hooks import ExecutionHooks
    from eventbraid.command._stream import Stream
    from eventbraid.command._stream_loading import StreamState
    from eventbraid.command._write import Write
    from eventbraid.event import EventRegistry, OnUndecodable
    from eventbraid.store import Expectation, Store

S = TypeVar("S")

_DEFAULT_RETRY = RetryPolicy()
_DEFAULT_TIMEOUT = timedelta(seconds=30)
_DEFAULT_BOUNDS = DiscoveryBounds()


class Executor:
    """Executes commands on a store and blocks the calling thread.

    Any number of threads may use one executor, and any number of executors one store.

    Args:
        store: The store, open.
        retry: The policy by which commands are retried after conflicts.
        retry_timeout: The maximum duration of an execution: no attempt begins after it.
            More than 100 years (`timedelta.max`) counts as 100 years.
        discovery_rounds: The maximum number of discovery rounds of a command.
        discovery_streams: The maximum number of streams that a command discovers.
        remembered_events: The maximum number of decoded events that are cached, so that
            each event of a long stream is decoded only once.
        remembered_bytes: The maximum size of this cache, which is estimated; a small
            event takes about 1 KB.
        registry: The registry of the events; by default, that of the store.
        on_undecodable: The policy for events that can't be decoded. By default, the
            execution raises. With ``"raw"``, commands whose events include
            `UndecodedEvent` get it in `apply`. A function is called with it, at least
            once, and the command decides without the event.
        state_cache_bytes: The maximum size of the cache of streams' states, which is
            estimated; a small state takes about 300 bytes. All executors of the store
            in this process share the cache, and the largest value counts.
        hooks: Receive the facts of each execution, for metrics and traces.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.counter.raised")
        ... class Raised: ...
        >>> class Counter(eb.Stream[Raised], category="counter"): ...
        >>> class Raise(eb.StatefulCommand[int, Raised]):
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
        ...     retry = eb.RetryPolicy(maximum_attempts=5)
        ...     executor = eb.Executor(store, retry=retry)
        ...     done = executor.execute(Raise(counter="counter-1"))
        ...     print(done.versions["counter-1"])
        1
    """

    def __init__(
        self,
        store: Store,
        *,
        retry: RetryPolicy = _DEFAULT_RETRY,
        retry_timeout: timedelta = _DEFAULT_TIMEOUT,
        discovery_rounds: int = _DEFAULT_BOUNDS.rounds,
        discovery_streams: int = _DEFAULT_BOUNDS.streams,
        remembered_events: int = 65_536,
        remembered_bytes: int = 64 * 2**20,
        registry: EventRegistry | None = None,
        on_undecodable: OnUndecodable = "raise",
        state_cache_bytes: int = 64 * 2**20,
        hooks: Iterable[ExecutionHooks] = (),
    ) -> None:
        """Execute commands on a store."""
        decoder = decoder_of(store, registry, on_undecodable)
        self._engine = ExecutionEngine(
            ThreadPort(store),
            coordination_of(store),
            retry,
            retry_timeout,
            DiscoveryBounds(
                checked("discovery_rounds", discovery_rounds),
                checked("discovery_streams", discovery_streams),
            ),
            PerProcess(
                partial(
                    EventMemory,
                    checked("remembered_events", remembered_events),
                    checked("remembered_bytes", remembered_bytes),
                    decoder.registry,
                )
            ),
            decoder,
            checked("state_cache_bytes", state_cache_bytes),
            hooks,
        )

    @property
    def registry(self) -> EventRegistry:
        """The registry of the events that it reads and writes."""
        return self._engine.registry

    def execute(
        self,
        command: AnyCommand,
        /,
        *,
        idempotency_key: str | None = None,
        metadata: Mapping[str, str] | None = None,
        also: Iterable[Write] = (),
        expect: Mapping[str, Expectation] | None = None,
        deadline: timedelta | datetime | None = None,
    ) -> Executed:
        """Read a command's streams, let it decide, and append its events.

        The append expects that all declared and discovered streams still have the
        versions that were read. After a conflict the command is executed again. With an
        idempotency key, a command that was executed before returns its first result.

        Args:
            command: The command.
            idempotency_key: The key of this request, 1 to 255 bytes of UTF-8. It
                identifies the command's class and fields.
            metadata: Further facts about each of the events; see `caused_by`.
            also: Further writes of the same commit.
            expect: Further expectations of the same commit. A conflict on one of these
                is raised without a retry.
            deadline: The time after which no attempt begins: a duration from now, or a
                `datetime` with a time zone.

        Returns:
            The events, their positions, and the new versions.

        Raises:
            CommandRejected: A business rule rejected the command. The command isn't
                retried.
            RetriesExhausted: There was a conflict on every attempt.
            DeadlineExceeded: The deadline passed before the command was committed.
            VersionConflict: An expectation of `expect` failed.
            IdempotencyMismatch: The key was used for another command.
            UndeclaredStream: The command wrote to a stream that it neither declared nor
                discovered.
            DiscoveryLimit: The command discovers more than the limits allow.
            LimitExceeded: The command's events exceed the limits of one commit.
            UnknownEventType: A stream has an event whose class isn't registered.
            EventDecodeError: A stream has an event that the command can't apply.
            InvalidArgument: The result of ``decide`` has something that can't be
                appended.
            OutcomeUnknown: The store can't determine whether the commit happened.
        """
        execution = self._engine.execute(
            command, idempotency_key, metadata, also, expect, deadline
        )
        return run_without_loop(execution)

    def load(self, stream: Stream[Any, S], /) -> StreamState[S]:
        """Return the present state of a stream, for a query.

        The state is cached, and only newer events are read. To decide on a state, use a
        command: the stream may have another version a moment later.

        Args:
            stream: The stream.

        Raises:
            InvalidArgument: The kind of the stream has no state.
            UnknownEventType: The stream has an event whose class isn't registered.
            EventDecodeError: The stream has an event that isn't one of its kind.
            FoldError: The kind's `apply` raised an exception.

        Example:
            >>> import eventbraid as eb
            >>> @eb.event("doc.teapot.filled")
            ... class TeapotFilled: ...
            >>> class Teapot(eb.Stream[TeapotFilled, int], category="teapot"):
            ...     def initial(self):
            ...         return 0
            ...
            ...     def apply(self, state, event, /):
            ...         return state + 1
            >>> with eb.open("memory:") as store:
            ...     done = store.append([eb.new_event("teapot-1", TeapotFilled())])
            ...     print(eb.Executor(store).load(Teapot("teapot-1")))
            StreamState(state=1, version=1)
        """
        loading = self._engine.load(stream)
        return run_without_loop(loading)
