"""Computes which steps a compensation compensates, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.saga.definition._each import split_instance
from eventbraid.saga.definition._graph import steps_of

if TYPE_CHECKING:
    from eventbraid.saga.machine._progress import Progress


def compensation_plan(progress: Progress) -> tuple[str, ...]:
    """Return the steps that would be compensated if a compensation started now.

    First the steps that are next, if they may have had an effect, and then the
    successful steps in the reverse order of their success. The steps of a sequence are
    compensated in this order, those of parallel branches at the same time.
    """
    compensatable = {
        shape.name for shape in steps_of(progress.graph) if shape.has_compensation
    }
    happened = [*progress.done, *progress.doubtful]
    return tuple(
        step
        for step in reversed(happened)
        if step in compensatable or split_instance(step)[0] in compensatable
    )
