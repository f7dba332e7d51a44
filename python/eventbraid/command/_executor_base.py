"""The part that `Executor` and `AsyncExecutor` share."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Never, cast

from eventbraid.command._decision import COMMIT_EVENTS_LIMIT
from eventbraid.command._execution import Execution, Terms
from eventbraid.command._queue import queues_of
from eventbraid.command._retry_policy import COMMAND_SCHEDULE
from eventbraid.command._write import Write
from eventbraid.domain._invalid_value import shown
from eventbraid.errors import InvalidArgument, LimitExceeded, StreamCondition
from eventbraid.event import EventDecoder, EventRegistry
from eventbraid.event._registry import default_registry
from eventbraid.store._duration import duration_seconds
from eventbraid.store._paging import LARGEST_NUMBER, checked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventbraid.command._command import Command
    from eventbraid.command._memory import EventMemory
    from eventbraid.command._port import Port
    from eventbraid.command._reading import DiscoveryBounds
    from eventbraid.command._retry_policy import RetryPolicy
    from eventbraid.event import OnUndecodable
    from eventbraid.store import Expectation
    from eventbraid.store._fork import PerProcess


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
    registry.validate()
    return EventDecoder(registry=registry, on_undecodable=on_undecodable)


class ExecutionEngine:
    """Prepares the executions of one executor."""

    __slots__ = (
        "_bounds",
        "_decoder",
        "_memory",
        "_port",
        "_queues",
        "_retry",
        "_retry_seconds",
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
    ) -> None:
        """Prepare for the commands of one executor."""
        self._port = port
        self._queues = queues_of(coordination)
        self._retry = retry.schedule(COMMAND_SCHEDULE)
        self._retry_seconds = duration_seconds("retry_timeout", retry_timeout)
        self._bounds = bounds
        self._memory = memory
        self._decoder = decoder

    @property
    def registry(self) -> EventRegistry:
        """The registry of the events."""
        return self._decoder.registry

    def execution(
        self,
        command: Command[Any, Any],
        idempotency_key: str | None,
        metadata: Mapping[str, str] | None,
        also: Iterable[Write],
        expect: Mapping[str, Expectation] | None,
        deadline: timedelta | datetime | None,
    ) -> Execution[Any]:
        """Validate the arguments, and return the execution of a command."""
        now = self._port.now()
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
            self._port,
            self._queues.get(),
            self._retry,
            self._bounds,
            self._memory.get(),
            self._decoder,
        )


def _checked_writes(also: Iterable[object]) -> tuple[Write, ...]:
    # Take only one write more than the limit, so that the check below fails. Otherwise
    # an endless iterator would fill the memory.
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
    # A deadline that has passed is a valid argument; the command then isn't attempted.
    return duration_seconds("deadline", deadline, minimum=timedelta.min)
