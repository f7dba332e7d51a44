"""The functions that declare steps: `step` and `local_step`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from eventbraid.saga.definition._attempt_rules import (
    DEFAULT_MAXIMUM_CRASHES,
    RETRIABLE_STEP_SCHEDULE,
    STEP_SCHEDULE,
    attempt_rules,
)
from eventbraid.saga.definition._codec import Codec
from eventbraid.saga.definition._default_defects import check_defects
from eventbraid.saga.definition._result_type import result_type
from eventbraid.saga.definition._step import LocalStep, Step
from eventbraid.saga.definition._step_base import StepKind
from eventbraid.saga.definition._step_checks import (
    require_asynchronous,
    require_name,
    require_positive,
    require_synchronous,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from eventbraid.command import AnyCommand, Executed, RetryPolicy
    from eventbraid.command._retry_policy import RetrySchedule
    from eventbraid.saga.definition._context import (
        StepCompleted,
        StepContext,
        StepFailure,
    )

S = TypeVar("S")
R = TypeVar("R")


def step(
    name: str,
    action: Callable[[StepContext[S]], Awaitable[R]],
    /,
    *,
    timeout: timedelta,
    kind: StepKind = StepKind.COMPENSATABLE,
    retry: RetryPolicy | None = None,
    refusals: tuple[type[BaseException], ...] = (),
    maximum_crashes: int = DEFAULT_MAXIMUM_CRASHES,
    result: type[R] | None = None,
    ask: Callable[[StepContext[S]], Awaitable[StepCompleted[R] | None]] | None = None,
    then: Callable[[S, R], S] | None = None,
    record: Callable[[StepContext[S], R], AnyCommand] | None = None,
    otherwise: Callable[[StepContext[S], StepFailure], AnyCommand] | None = None,
    skip_if: Callable[[S], str | bool | None] | None = None,
    defects: tuple[type[BaseException], ...] | None = None,
) -> Step[S, R]:
    """Declare an external step: a call to something outside of the store.

    The start of the step is recorded before the call. The call gets an idempotency key
    that is the same for all attempts and after restarts. The call is made at least
    once, and has one effect at a receiver that honours idempotency keys.

    An exception in ``refusals`` means that the call had no effect. A defect, such as
    a `TypeError`, shows a bug in the program. A defect blocks the saga until a
    coordinator with corrected code makes the call again, and isn't counted as an
    attempt. After a timeout, a crash or any other exception, the outcome is unknown.
    Then ``ask`` is called, and further attempts with the same key are made. If the
    outcome is still unknown after that, the compensation of the step receives
    `StepInDoubt`.

    Args:
        name: The step's name: unique in its saga, 1 to 80 bytes, and never changed.
        action: The call: an ``async def``, or a callable annotated to return an
            awaitable.
        timeout: The maximum duration of each attempt.
        kind: The kind, which decides the effect of the step's failure on the saga.
        retry: The number of attempts, and their delays. By default five attempts, or
            any number for a retriable step.
        refusals: The exceptions by which the receiver refuses the call. They prove that
            the call had no effect, and fail the step at once; any other exception
            leaves the outcome unknown.
        maximum_crashes: The maximum number of attempts that end with their process
            although the process made no other call. Such attempts don't count against
            ``retry``. When the number is reached, the saga is stuck.
        result: The type of the result, if the action has no annotation for it.
        ask: Asks the receiver for the result under ``context.idempotency_key``; returns
            `StepCompleted` with the result, or None if the receiver has none.
        then: Returns the new state from the state and the result. It must be pure,
            because it is called again at each resume.
        record: Returns the command that follows from the result. The command is
            committed together with the record of the success and the start of the next
            step.
        otherwise: Returns the command that replaces the step if it failed for good. The
            saga then continues. The step is compensated later only if it may have had
            an effect.
        skip_if: Returns the reason why the step isn't needed, or just True; None or
            False if it is needed. It must be pure.
        defects: The exceptions of the action and its compensation that count as
            defects; by default those of the saga, which are `DEFECTS` by default.

    Returns:
        The step. `Step.compensated_by` adds a compensation.

    Raises:
        InvalidSaga: The name or the timeout is out of bounds, the type of the result
            can't be determined, the action is synchronous, or another function that
            must be synchronous is asynchronous.
        InvalidArgument: ``refusals`` or ``maximum_crashes`` is out of its range.

    Example:
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> async def capture(context: eb.StepContext[int]) -> str:
        ...     return f"receipt for {context.state}"
        >>> declared = eb.step("capture", capture, timeout=timedelta(seconds=5))
        >>> declared.name
        'capture'
    """
    require_name(name)
    timeout = require_positive(timeout, name)
    require_asynchronous(action, "action", name)
    if ask is not None:
        require_asynchronous(ask, "ask", name)
    require_synchronous(
        name, then=then, record=record, otherwise=otherwise, skip_if=skip_if
    )
    return Step(
        name=name,
        kind=kind,
        attempt_rules=attempt_rules(
            retry,
            _default_schedule(kind),
            refusals=refusals,
            maximum_crashes=maximum_crashes,
        ),
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


def local_step(
    name: str,
    make: Callable[[StepContext[S]], AnyCommand],
    /,
    *,
    kind: StepKind = StepKind.COMPENSATABLE,
    retry: RetryPolicy | None = None,
    maximum_crashes: int = DEFAULT_MAXIMUM_CRASHES,
    then: Callable[[S, Executed], S] | None = None,
    otherwise: Callable[[StepContext[S], StepFailure], AnyCommand] | None = None,
    skip_if: Callable[[S], str | bool | None] | None = None,
) -> LocalStep[S]:
    """Declare a local step: a command whose events are in the same store.

    The command's events, the record of the step and the start of the next step are one
    commit, so the step happens exactly once, even after crashes. If the command is
    rejected, or exceeds a limit of the store, the step fails. After an `OSError` in the
    step's functions, the step is executed again. Any other exception of these functions
    is a defect and blocks the saga.

    Args:
        name: The step's name: unique in its saga, 1 to 80 bytes, and never changed.
        make: Returns the command, from the context with the saga's state.
        kind: The kind, which decides the effect of the step's failure on the saga.
        retry: The number of attempts of a retriable step whose command is rejected, and
            their delays; by default any number. Other steps are never retried.
        maximum_crashes: The maximum number of attempts that end with their process
            although the process made no other call. When the number is reached, the
            saga is stuck.
        then: Returns the new state from the state and the result of the command. It
            must be pure, because it is called again at each resume, with the events
            read from the log.
        otherwise: Returns the command that replaces the step if it failed for good. The
            saga then continues.
        skip_if: Returns the reason why the step isn't needed, or just True; None or
            False if it is needed. It must be pure.

    Returns:
        The step. `LocalStep.compensated_by` adds a compensation.

    Raises:
        InvalidSaga: The name is out of bounds, or a function is asynchronous.
        InvalidArgument: ``maximum_crashes`` is out of its range.

    Example:
        >>> import eventbraid as eb
        >>> reserve = eb.local_step(
        ...     "reserve", lambda context: context.state.reservation
        ... )
        >>> reserve.name
        'reserve'
    """
    require_name(name)
    require_synchronous(
        name, command=make, then=then, otherwise=otherwise, skip_if=skip_if
    )
    return LocalStep(
        name=name,
        kind=kind,
        attempt_rules=attempt_rules(
            retry, _default_schedule(kind), maximum_crashes=maximum_crashes
        ),
        skip_if=skip_if,
        otherwise=otherwise,
        make=make,
        then=then,
    )


def _result_codec(
    action: Callable[[StepContext[S]], Awaitable[R]], name: str, given: type[R] | None
) -> Codec[R]:
    annotation = result_type(action, name) if given is None else given
    return Codec(annotation, what=f"the result of step {name!r}", step=name)


def _default_schedule(kind: StepKind) -> RetrySchedule:
    return RETRIABLE_STEP_SCHEDULE if kind is StepKind.RETRIABLE else STEP_SCHEDULE
