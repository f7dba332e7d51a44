"""The two kinds of steps: external steps make calls, local steps execute commands."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeGuard, TypeVar

from eventbraid.saga.definition._attempt_rules import (
    COMPENSATION_SCHEDULE,
    DEFAULT_MAXIMUM_CRASHES,
    LOCAL_COMPENSATION_SCHEDULE,
    AttemptRules,
    attempt_rules,
)
from eventbraid.saga.definition._step_base import SagaStep
from eventbraid.saga.definition._step_checks import (
    refuse_compensation_of_retriable,
    require_asynchronous,
    require_positive,
    require_synchronous,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.command import AnyCommand, Executed, RetryPolicy
    from eventbraid.saga.definition._codec import Codec
    from eventbraid.saga.definition._context import (
        StepCompleted,
        StepContext,
        StepInDoubt,
    )

S = TypeVar("S")
R = TypeVar("R")
U = TypeVar("U")

_COMPENSATION_TIMEOUT = timedelta(seconds=30)
_WITHOUT_COMPENSATION = attempt_rules(None, COMPENSATION_SCHEDULE)
_WITHOUT_LOCAL_COMPENSATION = attempt_rules(None, LOCAL_COMPENSATION_SCHEDULE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation(Generic[S, R]):
    """The compensation of an external step: the call, and the rules for its attempts.

    The result of the call is passed to ``record`` and isn't recorded itself. So its
    type needs no codec, and only the signature of `Step.compensated_by` checks it.

    Attributes:
        action: The call.
        rules: The rules for its attempts.
        timeout: The maximum duration of each attempt.
        record: Returns the command that follows from the compensation, or None.
    """

    action: Callable[
        [StepContext[S], StepCompleted[R] | StepInDoubt], Awaitable[object]
    ]
    rules: AttemptRules
    timeout: timedelta
    record: Callable[[StepContext[S], Any], AnyCommand | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(SagaStep[S], Generic[S, R]):
    """An external step: an asynchronous call outside of the store; built by `step`.

    Example:
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> async def ship(context: eb.StepContext[int]) -> str:
        ...     return f"parcel for {context.state}"
        >>> async def cancel(
        ...     context: eb.StepContext[int],
        ...     did: eb.StepCompleted[str] | eb.StepInDoubt,
        ... ) -> None:
        ...     print("cancelled by", context.forward_key)
        >>> step = eb.step("ship", ship, timeout=timedelta(seconds=5))
        >>> step.compensated_by(cancel).has_compensation
        True
    """

    action: Callable[[StepContext[S]], Awaitable[R]]
    timeout: timedelta
    result: Codec[R]
    ask: Callable[[StepContext[S]], Awaitable[StepCompleted[R] | None]] | None
    then: Callable[[S, R], S] | None
    record: Callable[[StepContext[S], R], AnyCommand] | None
    defects: tuple[type[BaseException], ...] | None = None
    compensation: Compensation[S, R] | None = None
    needs_no_compensation: bool = False

    @property
    def has_compensation(self) -> bool:
        """Whether the step has a compensation."""
        return self.compensation is not None

    @property
    def compensation_rules(self) -> AttemptRules:
        """The rules for the attempts to compensate the step."""
        if self.compensation is None:
            return _WITHOUT_COMPENSATION
        return self.compensation.rules

    def compensated_by(
        self,
        action: Callable[
            [StepContext[S], StepCompleted[R] | StepInDoubt], Awaitable[U]
        ],
        /,
        *,
        retry: RetryPolicy | None = None,
        refusals: tuple[type[BaseException], ...] = (),
        maximum_crashes: int = DEFAULT_MAXIMUM_CRASHES,
        timeout: timedelta = _COMPENSATION_TIMEOUT,
        record: Callable[[StepContext[S], U], AnyCommand | None] | None = None,
    ) -> Step[S, R]:
        """Return the step with a compensation.

        The compensation must be idempotent. It must also be right if the action never
        took effect, or takes effect later. So it voids any effect, past or future, of
        the call with the key ``context.forward_key``.

        Args:
            action: The call that compensates. It takes two arguments: the context,
                and the outcome of the step: `StepCompleted` with its result, or
                `StepInDoubt`.
            retry: The number of its attempts, and their delays; by default 20 attempts.
                After the last one the saga is stuck: a person decides.
            refusals: The exceptions by which the receiver refuses the call for good.
                After one of them the saga is stuck at once.
            maximum_crashes: The maximum number of attempts that end with their process
                although the process made no other call. When the number is reached,
                the saga is stuck.
            timeout: The maximum duration of each attempt.
            record: Returns the command that follows from the compensation, from the
                context and the value that the action returned; it is committed
                together with the record of the compensation. None: no command.

        Returns:
            A new step with the compensation; this one is unchanged.

        Raises:
            InvalidSaga: The step is retriable, the timeout isn't above 0, the action
                is synchronous, or ``record`` is asynchronous.
            InvalidArgument: ``refusals`` or ``maximum_crashes`` is out of its range.
        """
        refuse_compensation_of_retriable(self)
        timeout = require_positive(timeout, self.name)
        require_asynchronous(action, "compensation", self.name)
        require_synchronous(self.name, record=record)
        compensation: Compensation[S, R] = Compensation(
            action=action,
            rules=attempt_rules(
                retry,
                COMPENSATION_SCHEDULE,
                refusals=refusals,
                maximum_crashes=maximum_crashes,
            ),
            timeout=timeout,
            record=record,
        )
        return dataclasses.replace(self, compensation=compensation)

    def without_compensation(self) -> Step[S, R]:
        """Declare that there is nothing to compensate: the step has no lasting effect.

        A compensatable step must declare either a compensation or its absence.
        Otherwise a forgotten compensation would look the same as one that isn't needed.
        """
        return dataclasses.replace(self, needs_no_compensation=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStep(SagaStep[S]):
    """A local step: a command on the saga's own store; built by `local_step`.

    The command's events, the saga's record of the step and the start of the next step
    are one commit, so the step happens exactly once.

    Example:
        >>> import eventbraid as eb
        >>> eb.saga.LocalStep.__name__
        'LocalStep'
    """

    make: Callable[[StepContext[S]], AnyCommand]
    then: Callable[[S, Executed], S] | None
    compensation: Callable[[StepContext[S]], AnyCommand] | None = None
    local_compensation_rules: AttemptRules = _WITHOUT_LOCAL_COMPENSATION
    needs_no_compensation: bool = False

    @property
    def has_compensation(self) -> bool:
        """Whether the step has a compensation."""
        return self.compensation is not None

    @property
    def compensation_rules(self) -> AttemptRules:
        """The rules for the attempts to compensate the step."""
        return self.local_compensation_rules

    def compensated_by(
        self,
        make: Callable[[StepContext[S]], AnyCommand],
        /,
        *,
        retry: RetryPolicy | None = None,
        maximum_crashes: int = DEFAULT_MAXIMUM_CRASHES,
    ) -> LocalStep[S]:
        """Return the step with a compensation: another command.

        Args:
            make: Returns the command. Its events and the record of the compensation
                are one commit.
            retry: The number of attempts if the command is rejected, and their delays;
                by default 5 attempts. After the last one the saga is stuck and waits
                for a person.
            maximum_crashes: The maximum number of attempts that end with their process
                although the process made no other call. When the number is reached,
                the saga is stuck.

        Returns:
            A new step with the compensation; this one is unchanged.

        Raises:
            InvalidSaga: The step is retriable, or ``make`` is asynchronous.
            InvalidArgument: ``maximum_crashes`` is out of its range.
        """
        refuse_compensation_of_retriable(self)
        require_synchronous(self.name, command=make)
        return dataclasses.replace(
            self,
            compensation=make,
            local_compensation_rules=attempt_rules(
                retry, LOCAL_COMPENSATION_SCHEDULE, maximum_crashes=maximum_crashes
            ),
        )

    def without_compensation(self) -> LocalStep[S]:
        """Declare that there is nothing to compensate."""
        return dataclasses.replace(self, needs_no_compensation=True)


def is_external(node: SagaStep[S]) -> TypeGuard[Step[S, Any]]:
    """Return whether a node is an external step."""
    return isinstance(node, Step)


def external(node: SagaStep[S]) -> Step[S, Any]:
    """Return a node that must be an external step according to the recorded graph.

    Raises:
        AssertionError: The node is a local step. The graph hash is checked before a
            saga is driven, so this is a bug in Eventbraid.
    """
    if is_external(node):
        return node
    raise AssertionError(node.name)


def local(node: SagaStep[S]) -> LocalStep[S]:
    """Return a node that isn't an external step, as the local step that it is.

    Ask first whether a node is an external step. The classes of steps are abstract:
    `isinstance` takes 60 ns for an instance of exactly the given class, and 370 ns for
    one of another class, because it then calls slow code of `abc`.

    Raises:
        AssertionError: The node is an external step, which is a bug in Eventbraid.
    """
    if isinstance(node, LocalStep):
        return node
    raise AssertionError(node.name)
