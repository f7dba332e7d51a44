"""The base class of all steps, and the kinds of steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.command import AnyCommand
    from eventbraid.saga.definition._attempt_rules import AttemptRules
    from eventbraid.saga.definition._context import StepContext, StepFailure

S = TypeVar("S")


class StepKind(Enum):
    """The kind of a step, which decides the effect of its failure on the saga.

    A saga has compensatable steps, then at most one pivot, then retriable steps. A step
    with ``otherwise=`` and without compensation may have any position.

    Example:
        >>> import eventbraid as eb
        >>> eb.StepKind.PIVOT.value
        'pivot'
    """

    COMPENSATABLE = "compensatable"
    """The step can be compensated, and its failure compensates the saga."""

    PIVOT = "pivot"
    """Its failure compensates the saga; after its success, the saga must complete."""

    RETRIABLE = "retriable"
    """The step is after the pivot: it is only retried, never compensated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaStep(ABC, Generic[S]):
    """One named step of a saga over the state ``S``; built by `step` or `local_step`.

    Attributes:
        name: The name by which the records refer to the step.
        kind: The kind, which decides the effect of its failure on the saga.
        attempt_rules: The rules for its attempts.
        skip_if: Returns the reason why the step isn't needed, or True.
        otherwise: Returns the command that replaces the step if it failed for good.
        needs_no_compensation: Whether the step was declared by `without_compensation`.

    Example:
        >>> import eventbraid as eb
        >>> close = eb.local_step("close", lambda context: context.state.closing)
        >>> isinstance(close, eb.saga.SagaStep), close.kind.value
        (True, 'compensatable')
        >>> close.has_compensation
        False
    """

    name: str
    kind: StepKind
    attempt_rules: AttemptRules
    skip_if: Callable[[S], str | bool | None] | None
    otherwise: Callable[[StepContext[S], StepFailure], AnyCommand] | None
    needs_no_compensation: bool

    @property
    @abstractmethod
    def has_compensation(self) -> bool:
        """Whether the step has a compensation."""

    @property
    @abstractmethod
    def compensation_rules(self) -> AttemptRules:
        """The rules for the attempts to compensate the step."""
