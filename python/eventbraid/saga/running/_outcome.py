"""The result of a saga, as its callers receive it.

A saga has *ended* if it is completed or compensated. A *stuck* saga has not ended. In
both cases the saga is *at rest*: it does nothing by itself, and its callers get a
result.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

S = TypeVar("S")


class SagaOutcome(Enum):
    """The outcome of a saga that is at rest.

    Example:
        >>> import eventbraid as eb
        >>> eb.SagaOutcome.COMPENSATED.value
        'compensated'
    """

    COMPLETED = "completed"
    """Every step is settled."""

    COMPENSATED = "compensated"
    """Every step that had an effect is compensated."""

    STUCK = "stuck"
    """A person must decide: `SagaCoordinator.retry` or `SagaCoordinator.skip`."""


@dataclass(frozen=True, slots=True)
class SagaResult(Generic[S]):
    """The result of a saga that is at rest: it has ended, or it is stuck.

    Attributes:
        outcome: The outcome.
        state: The state, folded from the results of its steps.
        failure: The reason for its compensation, or why it is stuck; None if it is
            completed.

    Example:
        >>> import eventbraid as eb
        >>> eb.saga.SagaResult(
        ...     eb.SagaOutcome.COMPLETED, state={"cents": 500}
        ... ).outcome.value
        'completed'
    """

    outcome: SagaOutcome
    state: S
    failure: str | None = None
