"""What all steps have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.command import Command
    from eventbraid.saga.definition._context import StepContext, StepFailure
    from eventbraid.saga.definition._retry import Retry

    # Steps of one saga run commands of different states and events, which Python's
    # type system can only say with `Any`.
    AnyCommand: TypeAlias = Command[Any, Any]

S = TypeVar("S")
R = TypeVar("R")
U = TypeVar("U")

_MOST_NAME_BYTES = 80
_COMPENSATION_TIMEOUT = timedelta(seconds=30)


class Kind(Enum):
    """What a step's failure means for the saga.

    A saga is compensatable steps, then at most one pivot, then retriable steps. Steps
    with ``otherwise=`` and without compensation may stand anywhere.

    Example:
        >>> import eventbraid as eb
        >>> eb.Kind.PIVOT.value
        'pivot'
    """

    COMPENSATABLE = "compensatable"
    """Can be compensated; its failure compensates the saga."""

    PIVOT = "pivot"
    """Its failure compensates the saga; after its success there is no way back."""

    RETRIABLE = "retriable"
    """Stands behind the point of no return and is only retried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(ABC, Generic[S]):
    """One named step of a saga over the state ``S``; made by `step` or `local`.

    Attributes:
        name: The name by which the log knows the step.
        kind: What its failure means.
        retry: How its attempts follow each other.
        skip_if: Returns the reason, or True, when the step isn't needed.
        otherwise: Makes the command that takes its place when it failed for good.

    Example:
        >>> import eventbraid as eb
        >>> close = eb.local("close", lambda context: context.state.closing)
        >>> isinstance(close, eb.Node), close.kind.value, close.undoable
        (True, 'compensatable', False)
    """

    name: str
    kind: Kind
    retry: Retry
    skip_if: Callable[[S], str | bool | None] | None
    otherwise: Callable[[StepContext[S], StepFailure], AnyCommand] | None

    @property
    @abstractmethod
    def undoable(self) -> bool:
        """Tell whether the step has a compensation."""

    @property
    @abstractmethod
    def settled_without_undo(self) -> bool:
        """Tell whether the author said that there is nothing to compensate."""

    @property
    @abstractmethod
    def undo_retry(self) -> Retry:
        """How attempts to compensate the step follow each other."""
