"""The arguments of a step's functions: the context, and the outcome of the step."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S")
R = TypeVar("R")

Doubt = Literal["timeout", "crash", "lost"]
"""The reason why an attempt may have had an effect although it didn't succeed."""


class StepContext(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """The argument of a step's functions: the saga's state and the call's key.

    Attributes:
        state: The saga's state, folded from the results so far. The function gets its
            own copy, so changes of the copy have no effect. Only the result of ``then``
            becomes the new state.
        saga_id: The saga's id, which is its stream.
        step: The step's name.
        attempt: The number of this attempt; the first is 1.
        idempotency_key: The key of this call, to be passed to the receiver. The key is
            the same for each attempt and after each restart. The compensation of the
            step has a different key.
        forward_key: The key of the step's action; in an action the same as
            ``idempotency_key``. A compensation voids the effect of the call with this
            key.
        deadline: The time after which an unfinished saga is compensated, or None.
        failure: In a compensation, a text for people that says why the saga is
            compensated; None otherwise.

    Example:
        >>> import eventbraid as eb
        >>> context = eb.StepContext(
        ...     state={"cents": 500},
        ...     saga_id="saga-1",
        ...     step="capture",
        ...     attempt=1,
        ...     idempotency_key="saga-1/capture/1",
        ...     forward_key="saga-1/capture/1",
        ... )
        >>> context.state["cents"]
        500
    """

    state: S
    saga_id: str
    step: str
    attempt: int
    idempotency_key: str
    forward_key: str
    deadline: datetime | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class StepCompleted(Generic[R]):
    """The second argument of a compensation if the action is known to have succeeded.

    A function ``ask`` also returns a `StepCompleted` if the receiver has a result for
    the key.

    Attributes:
        result: The result of the action.

    Example:
        >>> import eventbraid as eb
        >>> eb.StepCompleted("receipt-7").result
        'receipt-7'
    """

    result: R


@dataclass(frozen=True, slots=True)
class StepInDoubt:
    """The second argument of a compensation if the action's outcome isn't known.

    Compensate the action by its key (``context.forward_key``), so that the final state
    is right in all three cases: the action took effect, never takes effect, or takes
    effect later.

    Attributes:
        why: ``"timeout"``, ``"crash"`` or ``"lost"`` (any other exception).

    Example:
        >>> import eventbraid as eb
        >>> eb.StepInDoubt("timeout").why
        'timeout'
    """

    why: Doubt


@dataclass(frozen=True, slots=True)
class StepFailure:
    """The failure of a step; the argument of ``otherwise=``.

    Attributes:
        code: A rejection's code, or the name of the exception's class.
        message: The text for people.
        facts: The facts behind the rejection of a command; empty otherwise.
        doubt: The reason why the step may have had an effect; None if it certainly had
            no effect.

    Example:
        >>> import eventbraid as eb
        >>> eb.saga.StepFailure("Declined", "card expired").doubt is None
        True
    """

    code: str
    message: str
    facts: Mapping[str, object] = field(default_factory=dict[str, object])
    doubt: Doubt | None = None

    def __str__(self) -> str:
        """Return the code and the text."""
        return f"{self.code}: {self.message}" if self.message else self.code
