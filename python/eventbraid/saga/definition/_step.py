"""The two kinds of steps: external ones, which call, and local ones, which commit."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeGuard, TypeVar, cast

from eventbraid.errors import InvalidArgument, InvalidSaga
from eventbraid.saga._text import safe_text, shown
from eventbraid.saga.definition._codec import Codec
from eventbraid.saga.definition._defect_classes import check_defects
from eventbraid.saga.definition._result_type import is_asynchronous, result_type
from eventbraid.saga.definition._retry import BRIEFLY, FOREVER, PATIENTLY, Retry
from eventbraid.saga.definition._step_base import Kind, Node
from eventbraid.store._duration import validate_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.command import Executed
    from eventbraid.saga.definition._context import (
        Done,
        StepContext,
        StepFailure,
        Unknown,
    )
    from eventbraid.saga.definition._step_base import AnyCommand

S = TypeVar("S")
R = TypeVar("R")
U = TypeVar("U")

_MOST_NAME_BYTES = 80
_COMPENSATION_TIMEOUT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation(Generic[S, R]):
    """The compensation of an external step: the call, its retries and its time.

    The result of the call is passed to ``record`` and isn't recorded, so its type is
    checked by `Step.compensated_by` alone.

    Attributes:
        action: The call.
        retry: The number of its attempts, and their delays.
        timeout: The time that each attempt may take.
        record: Makes the command that follows from the compensation, or returns None.
    """

    action: Callable[[StepContext[S], Done[R] | Unknown], Awaitable[object]]
    retry: Retry
    timeout: timedelta
    record: Callable[[StepContext[S], Any], AnyCommand | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Node[S], Generic[S, R]):
    """An external step: an asynchronous call outside of the store. Built by `step`.

    Example:
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> async def ship(context: eb.StepContext[int]) -> str:
        ...     return f"parcel for {context.state}"
        >>> async def cancel(
        ...     context: eb.StepContext[int], did: eb.Done[str] | eb.Unknown
        ... ) -> None:
        ...     print("cancelled by", context.forward_key)
        >>> step = eb.step("ship", ship, timeout=timedelta(seconds=5))
        >>> step.compensated_by(cancel).undoable
        True
    """

    action: Callable[[StepContext[S]], Awaitable[R]]
    timeout: timedelta
    result: Codec[R]
    ask: Callable[[StepContext[S]], Awaitable[Done[R] | None]] | None
    then: Callable[[S, R], S] | None
    record: Callable[[StepContext[S], R], AnyCommand] | None
    defects: tuple[type[BaseException], ...] | None = None
    undo: Compensation[S, R] | None = None
    nothing_to_undo: bool = False

    @property
    def undoable(self) -> bool:
        """Whether the step has a compensation."""
        return self.undo is not None

    @property
    def settled_without_undo(self) -> bool:
        """Whether the declaration says that there is nothing to compensate."""
        return self.nothing_to_undo

    @property
    def undo_retry(self) -> Retry:
        """The number of attempts to compensate the step, and their delays."""
        return PATIENTLY if self.undo is None else self.undo.retry

    def compensated_by(
        self,
        action: Callable[[StepContext[S], Done[R] | Unknown], Awaitable[U]],
        /,
        *,
        retry: Retry = PATIENTLY,
        timeout: timedelta = _COMPENSATION_TIMEOUT,
        record: Callable[[StepContext[S], U], AnyCommand | None] | None = None,
    ) -> Step[S, R]:
        """Return the step with a compensation.

        The compensation must be idempotent. It must also be right if the action never
        happened, or happens later: it voids whatever the key ``context.forward_key``
        has caused or will cause.

        Args:
            action: The call that compensates. It takes two arguments: the context,
                and the outcome of the step, `Done` with its result or `Unknown`.
            retry: The number of its attempts, and their delays. After the last one, or
                after an exception of ``never``, the saga is stuck: a person decides.
            timeout: The time that each attempt may take.
            record: Returns the command that follows from the compensation, from the
                context and the value that the action returned; it is committed
                together with the record of the compensation. None: no command.

        Returns:
            A new step with the compensation; this one is unchanged.

        Raises:
            InvalidSaga: The step is retriable, the timeout isn't above 0, the action
                is synchronous, or ``record`` isn't.
        """
        _refuse_compensation_of_retriable(self)
        timeout = _require_positive(timeout, self.name)
        _require_asynchronous(action, "compensation", self.name)
        _require_synchronous(self.name, record=record)
        compensation: Compensation[S, R] = Compensation(
            action=action, retry=retry, timeout=timeout, record=record
        )
        return dataclasses.replace(self, undo=compensation)

    def without_compensation(self) -> Step[S, R]:
        """Declare that there is nothing to compensate: the step has no lasting effect.

        A compensatable step must declare one or the other: a forgotten compensation
        looks the same as one that isn't needed.
        """
        return dataclasses.replace(self, nothing_to_undo=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Local(Node[S]):
    """A local step: a command of this store. Built by `local`.

    The command's events, the saga's record of the step and the start of the next step
    are one commit, so the step happens exactly once.

    Example:
        >>> import eventbraid as eb
        >>> eb.Local.__name__
        'Local'
    """

    make: Callable[[StepContext[S]], AnyCommand]
    then: Callable[[S, Executed], S] | None
    undo: Callable[[StepContext[S]], AnyCommand] | None = None
    retry_of_undo: Retry = BRIEFLY
    nothing_to_undo: bool = False

    @property
    def undoable(self) -> bool:
        """Whether the step has a compensation."""
        return self.undo is not None

    @property
    def settled_without_undo(self) -> bool:
        """Whether the declaration says that there is nothing to compensate."""
        return self.nothing_to_undo

    @property
    def undo_retry(self) -> Retry:
        """The number of attempts to compensate the step, and their delays."""
        return self.retry_of_undo

    def compensated_by(
        self,
        make: Callable[[StepContext[S]], AnyCommand],
        /,
        *,
        retry: Retry = BRIEFLY,
    ) -> Local[S]:
        """Return the step with a compensation: another command.

        Args:
            make: Makes the command. Its events and the record of the compensation are
                one commit.
            retry: The number of attempts if the command is rejected, and their delays.
                After the last one the saga is stuck and waits for a person.

        Returns:
            A new step with the compensation; this one is unchanged.

        Raises:
            InvalidSaga: The step is retriable, or ``make`` is asynchronous.
        """
        _refuse_compensation_of_retriable(self)
        _require_synchronous(self.name, command=make)
        return dataclasses.replace(self, undo=make, retry_of_undo=retry)

    def without_compensation(self) -> Local[S]:
        """Declare that there is nothing to compensate."""
        return dataclasses.replace(self, nothing_to_undo=True)


def step(
    name: str,
    action: Callable[[StepContext[S]], Awaitable[R]],
    /,
    *,
    timeout: timedelta,
    kind: Kind = Kind.COMPENSATABLE,
    retry: Retry | None = None,
    result: type[R] | None = None,
    ask: Callable[[StepContext[S]], Awaitable[Done[R] | None]] | None = None,
    then: Callable[[S, R], S] | None = None,
    record: Callable[[StepContext[S], R], AnyCommand] | None = None,
    otherwise: Callable[[StepContext[S], StepFailure], AnyCommand] | None = None,
    skip_if: Callable[[S], str | bool | None] | None = None,
    defects: tuple[type[BaseException], ...] | None = None,
) -> Step[S, R]:
    """Declare an external step: a call to something outside of the store.

    Its start is recorded before the call. The call gets an idempotency key that is
    stable across attempts and restarts: the call is made at least once, and has one
    effect at a receiver that honours idempotency keys.

    An exception of ``retry.never`` means that nothing happened. A defect, such as a
    `TypeError`, shows a bug in the program: it blocks the saga until a coordinator with
    corrected code makes the call again, and it counts as no attempt. A timeout, a crash
    or any other exception leaves the outcome unknown, which is resolved by ``ask``,
    then by further attempts with the same key, then by compensating as `Unknown`.

    Args:
        name: The step's name: unique in its saga, 1 to 80 bytes, and never changed.
        action: The call: an ``async def``, or a callable annotated to return an
            awaitable.
        timeout: The time that each attempt may take.
        kind: What its failure means for the saga.
        retry: The number of attempts, and their delays. By default five attempts, or
            any number for a retriable step.
        result: The type of the result, if the action has no annotation of it.
        ask: Asks the receiver whether it knows ``context.idempotency_key``: `Done`
            with the result, or None.
        then: Returns the new state from the state and the result. Pure: it is run
            again at each resume.
        record: Makes the command that follows from the result. It is committed together
            with the record of the success and the start of the next step.
        otherwise: Makes the command that replaces the step if it failed for good. The
            saga then continues. The step is compensated later only if it may have
            happened.
        skip_if: Returns the reason why the step isn't needed, or just True; None or
            False if it is needed. Pure.
        defects: The exceptions of the action and its compensation that count as
            defects; by default those of the saga, which are `DEFECTS` by default.

    Returns:
        The step. `Step.compensated_by` adds a compensation.

    Raises:
        InvalidSaga: A name or timeout out of bounds, a result whose type can't be
            determined, a synchronous action, or an asynchronous function where a
            synchronous one is called.

    Example:
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> async def capture(context: eb.StepContext[int]) -> str:
        ...     return f"receipt for {context.state}"
        >>> declared = eb.step("capture", capture, timeout=timedelta(seconds=5))
        >>> declared.name
        'capture'
    """
    _require_name(name)
    timeout = _require_positive(timeout, name)
    _require_asynchronous(action, "action", name)
    if ask is not None:
        _require_asynchronous(ask, "ask", name)
    _require_synchronous(
        name, then=then, record=record, otherwise=otherwise, skip_if=skip_if
    )
    return Step(
        name=name,
        kind=kind,
        retry=_retry_of(kind, retry),
        skip_if=skip_if,
        otherwise=otherwise,
        action=action,
        timeout=timeout,
        result=_result_codec(action, name, result),
        ask=ask,
        then=then,
        record=record,
        defects=None if defects is None else check_defects(defects),
    )


def local(
    name: str,
    make: Callable[[StepContext[S]], AnyCommand],
    /,
    *,
    kind: Kind = Kind.COMPENSATABLE,
    retry: Retry | None = None,
    then: Callable[[S, Executed], S] | None = None,
    otherwise: Callable[[StepContext[S], StepFailure], AnyCommand] | None = None,
    skip_if: Callable[[S], str | bool | None] | None = None,
) -> Local[S]:
    """Declare a local step: a command whose events are in the same store.

    The command's events, the record of the step and the start of the next step are one
    commit, so the step happens exactly once, whatever crashes. If the command is
    rejected, or exceeds a limit of the store, the step failed. Any other exception of
    the step's functions is a defect and blocks the saga, except for `OSError`, after
    which the step is executed again.

    Args:
        name: The step's name: unique in its saga, 1 to 80 bytes, and never changed.
        make: Makes the command from the saga's state.
        kind: What its failure means for the saga.
        retry: The number of attempts of a retriable step whose command is rejected, and
            their delays; by default any number. Other steps are never retried.
        then: Returns the new state from the state and what was executed. Pure: it is
            run again at each resume. The events are then read from the log.
        otherwise: Makes the command that replaces the step if it failed for good. The
            saga then continues.
        skip_if: Returns the reason why the step isn't needed, or just True; None or
            False if it is needed. Pure.

    Returns:
        The step. `Local.compensated_by` adds a compensation.

    Raises:
        InvalidSaga: A name out of bounds, or an asynchronous function.

    Example:
        >>> import eventbraid as eb
        >>> reserve = eb.local("reserve", lambda context: context.state.reservation)
        >>> reserve.name
        'reserve'
    """
    _require_name(name)
    _require_synchronous(
        name, command=make, then=then, otherwise=otherwise, skip_if=skip_if
    )
    return Local(
        name=name,
        kind=kind,
        retry=_retry_of(kind, retry),
        skip_if=skip_if,
        otherwise=otherwise,
        make=make,
        then=then,
    )


def is_external(node: Node[S]) -> TypeGuard[Step[S, Any]]:
    """Return whether a node is an external step."""
    return isinstance(node, Step)


def external(node: Node[S]) -> Step[S, Any]:
    """Return a node as the external step that the recorded graph says it is.

    Raises:
        AssertionError: It is a local step. The graph hash is checked before a saga is
            driven, so this is a bug in Eventbraid.
    """
    if is_external(node):
        return node
    raise AssertionError(node.name)


def _result_codec(
    action: Callable[[StepContext[S]], Awaitable[R]], name: str, given: type[R] | None
) -> Codec[R]:
    annotation = result_type(action, name) if given is None else given
    return Codec(annotation, what=f"the result of step {name!r}", step=name)


def _retry_of(kind: Kind, retry: Retry | None) -> Retry:
    if retry is not None:
        return retry
    return FOREVER if kind is Kind.RETRIABLE else Retry()


def _require_name(name: str) -> None:
    # `isprintable` first: a lone surrogate is not printable, and can't be encoded.
    text = cast("object", name)
    if (
        not isinstance(text, str)
        or not text.isprintable()
        or not 1 <= len(text.encode()) <= _MOST_NAME_BYTES
    ):
        raise InvalidSaga(
            f"a step's name is 1 to {_MOST_NAME_BYTES} bytes of printable text, "
            f"but {shown(text)} is not",
            step=safe_text(text),
        )


def _require_positive(timeout: timedelta, name: str) -> timedelta:
    """Return the timeout, at most the longest wait of every timer."""
    try:
        bounded = validate_duration("timeout", timeout, minimum=timedelta.min)
    except InvalidArgument as error:
        raise InvalidSaga(f"step {name!r}: {error}", step=name) from error
    if timeout <= timedelta():
        raise InvalidSaga(
            f"the timeout of step {name!r} is {timeout}; give it a time above 0",
            step=name,
        )
    return bounded


def _require_asynchronous(
    function: Callable[..., object], what: str, name: str
) -> None:
    if not is_asynchronous(function):
        raise InvalidSaga(
            f"the {what} of step {name!r} is {function!r}, which isn't asynchronous; "
            "declare it with `async def`, or annotate it to return an awaitable. Give "
            "a synchronous command of this store to local(), and run a blocking call "
            "in a thread: `await anyio.to_thread.run_sync(...)`",
            step=name,
        )


def _require_synchronous(
    name: str, /, **functions: Callable[..., object] | None
) -> None:
    for what, function in functions.items():
        if function is not None and inspect.iscoroutinefunction(function):
            raise InvalidSaga(
                f"`{what}` of step {name!r} is asynchronous, but it is called between "
                "two commits and must not wait; declare it with `def`, and move the "
                "call that it awaits into the action of a step",
                step=name,
            )


def _refuse_compensation_of_retriable(node: Node[S]) -> None:
    if node.kind is Kind.RETRIABLE:
        raise InvalidSaga(
            f"step {node.name!r} is retriable: it is past the pivot and is "
            "never compensated; remove its compensation, or make it compensatable",
            step=node.name,
        )
