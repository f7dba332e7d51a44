"""Computes which steps a compensation compensates, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbraid.saga.machine._progress import Progress


def compensation_plan(progress: Progress) -> tuple[str, ...]:
    """Return the steps that would be compensated if a compensation started now.

    The steps are in the order of their compensations: first the step at the branch's
    position, if it may have had an effect, and then the successful steps in reverse.
    """
    compensatable = {shape.name for shape in progress.graph if shape.has_compensation}
    happened = [*progress.done]
    if progress.may_have_happened and progress.step is not None:
        happened.append(progress.step)
    return tuple(step for step in reversed(happened) if step in compensatable)
