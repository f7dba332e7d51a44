"""The faults of a saga in a test: failures, lost answers, and ends of its process."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import orjson

from eventbraid.errors import CommandRejected
from eventbraid.saga import (
    Choice,
    Each,
    LocalStep,
    ParallelGroup,
    Saga,
    StepSequence,
)
from eventbraid.saga.definition._step import is_external

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.command import AnyCommand
    from eventbraid.saga import SagaNode, SagaStep, Step, StepContext
    from eventbraid.store import AsyncStore

S = TypeVar("S")


class ProcessEnd(BaseException):
    """Raised in place of the end of a process.

    The code of a saga may handle it, as an error of a call, which no code can do with
    the end of a process. So each later append and call of the same process raises it,
    too, and nothing that the handlers do has an effect.
    """


class LostAnswer(ConnectionError):
    """Raised after a call whose answer is lost."""


class Failed(ConnectionError):
    """Raised in place of a call that fails."""


class SagaFaults:
    """The faults that a test has requested, and the points at which a process can end.

    A point is a moment before or after an append, or before or after a call.

    Attributes:
        points: The number of the points that were passed.
        dies_at: The number of the point at which the process ends; 0: it doesn't end.
        has_ended: Whether the process has ended.
    """

    def __init__(self) -> None:
        """Begin without faults."""
        self.points = 0
        self.dies_at = 0
        self.has_ended = False
        self.failures: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.deaths: set[tuple[str, str]] = set()

    def pass_point(self) -> None:
        """Count a point, and end the process there if the test has requested it.

        Raises:
            ProcessEnd: The process ends here.
        """
        self.points += 1
        if self.has_ended or self.points == self.dies_at:
            self._end()

    def after_append(self, recorded: list[tuple[str, str]]) -> None:
        """End the process after a record, if the test has requested it.

        Args:
            recorded: For each record the step, and the type without its prefix.

        Raises:
            ProcessEnd: The process ends here.
        """
        self.pass_point()
        due = self.deaths.intersection(recorded)
        if due:
            self.deaths -= due
            self._end()

    def begin_process(self) -> None:
        """Begin another process, which doesn't end by itself."""
        self.dies_at = 0
        self.has_ended = False

    def _end(self) -> NoReturn:
        self.has_ended = True
        raise ProcessEnd

    async def call(self, name: str, action: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call, with the faults of the step."""
        self.pass_point()
        if self.failures[name] > 0:
            self.failures[name] -= 1
            raise Failed(f"the test lets {name!r} fail")
        answer = await action()
        self.pass_point()
        if self.lost[name] > 0:
            self.lost[name] -= 1
            raise LostAnswer(f"the test loses the answer of {name!r}")
        return answer

    def make(self, name: str, build: Callable[[], AnyCommand]) -> AnyCommand:
        """Build the command of a local step, or reject it."""
        if self.failures[name] > 0:
            self.failures[name] -= 1
            raise CommandRejected("failed", f"the test lets {name!r} fail")
        return build()


def with_faults(saga: Saga[S], faults: SagaFaults) -> Saga[S]:
    """Return the same saga, whose calls have the faults of a test."""
    return Saga(
        saga.name,
        cast("type[S]", saga.state_codec.annotation),
        steps=[_node(node, faults) for node in saga.nodes],
        version=saga.version,
        deadline=saga.deadline,
        defects=saga.defects,
        compensation_order=saga.compensation_order,
    )


def _node(node: SagaNode[Any], faults: SagaFaults) -> SagaNode[Any]:
    match node:
        case StepSequence(nodes):
            return StepSequence(tuple(_node(one, faults) for one in nodes))
        case ParallelGroup(branches):
            return ParallelGroup(tuple(_sequence(one, faults) for one in branches))
        case Choice():
            return dataclasses.replace(
                node,
                then=_sequence(node.then, faults),
                otherwise=_sequence(node.otherwise, faults),
            )
        case Each():
            return dataclasses.replace(node, step=_step(node.step, faults))
        case _:
            return _step(node, faults)


def _sequence(sequence: StepSequence[Any], faults: SagaFaults) -> StepSequence[Any]:
    return StepSequence(tuple(_node(one, faults) for one in sequence.nodes))


def _step(step: SagaStep[Any], faults: SagaFaults) -> SagaStep[Any]:
    if is_external(step):
        return _external(step, faults)
    if isinstance(step, LocalStep):
        return _local(step, faults)
    return step


def _external(step: Step[Any, Any], faults: SagaFaults) -> Step[Any, Any]:
    act = step.action

    async def action(context: StepContext[Any]) -> Any:
        return await faults.call(context.step, lambda: act(context))

    compensation = step.compensation
    if compensation is None:
        return dataclasses.replace(step, action=action)
    compensate = compensation.action

    async def reverse(context: StepContext[Any], did: Any) -> object:
        name = f"compensate {context.step}"
        return await faults.call(name, lambda: compensate(context, did))

    replaced = dataclasses.replace(compensation, action=reverse)
    return dataclasses.replace(step, action=action, compensation=replaced)


def _local(step: LocalStep[Any], faults: SagaFaults) -> LocalStep[Any]:
    make, compensate = step.make, step.compensation

    def build(context: StepContext[Any]) -> AnyCommand:
        return faults.make(context.step, lambda: make(context))

    if compensate is None:
        return dataclasses.replace(step, make=build)

    def build_compensation(context: StepContext[Any]) -> AnyCommand:
        name = f"compensate {context.step}"
        return faults.make(name, lambda: compensate(context))

    return dataclasses.replace(step, make=build, compensation=build_compensation)


class MortalStore:
    """A store whose process may end before or after an append.

    Args:
        store: The store, which other processes use afterwards.
        faults: The faults of the test.
    """

    def __init__(self, store: AsyncStore, faults: SagaFaults) -> None:
        """Begin a process on a store."""
        self._store = store
        self._faults = faults

    async def append(self, events: Any, **options: Any) -> Any:
        """Append events, unless the process ends before."""
        events = list(events)
        self._faults.pass_point()
        appended = await self._store.append(events, **options)
        self._faults.after_append([_described(event) for event in events])
        return appended

    def __getattr__(self, name: str) -> Any:
        """Return anything else of the store."""
        return getattr(self._store, name)


def _described(event: Any) -> tuple[str, str]:
    """Return the step of a record, and its type without the prefix."""
    if not event.type.startswith("saga."):
        return "", ""
    body = orjson.loads(event.data)
    return body.get("step", ""), event.type.removeprefix("saga.")
