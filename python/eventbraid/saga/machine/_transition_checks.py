"""The checks that refuse a record which contradicts a saga's progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from eventbraid.errors import InvalidTransition
from eventbraid.saga.definition._graph import choices_of, shape_of
from eventbraid.saga.machine._branch import undecided_in

if TYPE_CHECKING:
    from eventbraid.saga.definition._graph import NodeShape
    from eventbraid.saga.machine._branch import Branch
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._progress import Progress


def refuse(progress: Progress, event: SagaEvent, reason: str) -> NoReturn:
    """Raise the error for a record that isn't allowed in the present progress.

    Raises:
        InvalidTransition: Always.
    """
    raise InvalidTransition(
        progress.id, progress.status.value, type(event).__name__, reason
    )


def require_known(progress: Progress, event: SagaEvent, step: str) -> None:
    """Refuse a record about a step or a choice that the graph doesn't have."""
    choices = {shape.name for shape in choices_of(progress.graph)}
    if step not in choices and shape_of(progress.graph, step) is None:
        refuse(progress, event, f"it has no step {step!r}")


def require_next(
    progress: Progress, event: SagaEvent, step: str
) -> tuple[NodeShape, Branch]:
    """Return a step and its branch; refuse a record about one that isn't next."""
    for shape, branch in progress.active:
        if shape.name == step:
            return shape, branch
    following = " or ".join(repr(name) for name in progress.steps) or None
    refuse(progress, event, f"the next step is {following}, not {step!r}")


def require_undecided(
    progress: Progress, event: SagaEvent, name: str, kind: str
) -> None:
    """Refuse a record about a node that isn't next, or is of another kind."""
    kinds = dict(undecided_in(progress.graph, progress.root))
    if kinds.get(name) != kind:
        refuse(progress, event, f"no record about {name!r} is due")


def require_open(progress: Progress, event: SagaEvent, step: str) -> None:
    """Refuse a record about a compensation that isn't planned, or failed for good."""
    if step not in progress.plan:
        refuse(progress, event, f"{step!r} isn't in its plan {progress.plan}")
    if progress.compensation(step).failure is not None:
        refuse(progress, event, f"the compensation of {step!r} has failed for good")


def require_stuck_at(progress: Progress, event: SagaEvent, step: str) -> None:
    """Refuse a person's decision about a step that isn't stuck."""
    stuck = progress.stuck_steps
    if step not in stuck:
        at = " and ".join(repr(name) for name in stuck) or "no step"
        refuse(progress, event, f"it is stuck at {at}, not {step!r}")


def require_attempt(
    progress: Progress, event: SagaEvent, attempt: int, expected: int
) -> None:
    """Refuse a record of an attempt with an unexpected number.

    If 0 is expected, no attempt has this number, and each record is refused.
    """
    if attempt != expected or attempt < 1:
        refuse(progress, event, f"attempt {attempt} isn't the present one")
