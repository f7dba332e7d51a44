"""What a step's functions are given, and what a compensation is told."""

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
"""Why it isn't known whether an attempt had an effect."""


class StepContext(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """What the functions of a step are given: the saga's state and the call's key.

    Attributes:
        state: The saga's state, folded from the results so far. It is this function's
            own copy: only what a step returns is kept, and only ``then`` changes the
            state.
        saga_id: The saga's id, which is its stream.
        step: The step's name.
        attempt: The number of this attempt; the first is 1.
        idempotency_key: The key of this call. It is the same for each attempt and after
            each restart, and another one for the compensation: hand it to the receiver.
        forward_key: The key that the step's action had; in an action the same as
            ``idempotency_key``. A compensation voids by it.
        deadline: When the saga is to be compensated if it isn't through, or None.
        failure: In a compensation the text of what undid the saga; None before.

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
class Done(Generic[R]):
    """Told to a compensation: the step happened, and this was its result.

    Also what ``ask=`` answers when the receiver knows the key.

    Attributes:
        result: What the action returned.

    Example:
        >>> import eventbraid as eb
        >>> eb.Done("receipt-7").result
        'receipt-7'
    """

    result: R


@dataclass(frozen=True, slots=True)
class Unknown:
    """The argument of a compensation whose step may have happened, or may happen yet.

    Compensate it by the action's key (``context.forward_key``), so that the result is
    right in all three cases: it happened, it never will, and it happens later.

    Attributes:
        why: ``"timeout"``, ``"crash"`` or ``"lost"`` (any other exception).

    Example:
        >>> import eventbraid as eb
        >>> eb.Unknown("timeout").why
        'timeout'
    """

    why: Doubt


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Why a step failed for good; what ``otherwise=`` is given.

    Attributes:
        code: A rejection's code, or the name of the exception's class.
        message: The text for people.
        facts: What a rejected command's rule looked at; empty otherwise.
        doubt: None if nothing happened for certain; else why that isn't known.

    Example:
        >>> import eventbraid as eb
        >>> eb.StepFailure("Declined", "card expired").doubt is None
        True
    """

    code: str
    message: str
    facts: Mapping[str, object] = field(default_factory=dict[str, object])
    doubt: Doubt | None = None

    def __str__(self) -> str:
        """Give the code and the text."""
        return f"{self.code}: {self.message}" if self.message else self.code
