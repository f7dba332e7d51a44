"""The fold of a saga's stream: which records are allowed, and what they change.

The decider and a process that reads a saga back use the same function, `evolve`. It
raises `InvalidTransition` for a record that the status graph doesn't allow. In a
decision, the error is raised before any record is appended. In a fold of the stream,
the error shows that another program has written to the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar, cast

from msgspec.structs import replace

from eventbraid.saga.machine._branch import entered
from eventbraid.saga.machine._compensation_transitions import (
    after_compensation_attempted,
    after_compensation_failed,
    after_compensation_started,
    after_defect_of_compensation,
    after_saga_compensated,
    after_step_compensated,
    retried_compensation,
    skipped_compensation,
)
from eventbraid.saga.machine._events import (
    BranchChosen,
    CompensationAttempted,
    CompensationFailed,
    CompensationStarted,
    DefectRecorded,
    ItemsCompleted,
    ItemsListed,
    RetriedByHand,
    SagaCompensated,
    SagaCompleted,
    SagaEvent,
    SagaStarted,
    SagaStuck,
    SignalReceived,
    SignalRefused,
    SkippedByHand,
    StepAnsweredLate,
    StepCompensated,
    StepFailed,
    StepGivenUp,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnknown,
    WaitEnded,
    WaitStarted,
)
from eventbraid.saga.machine._progress import Progress, SagaStatus, with_root
from eventbraid.saga.machine._step_transitions import (
    after_branch_chosen,
    after_defect_of_step,
    after_items_completed,
    after_items_listed,
    after_saga_completed,
    after_step_answered_late,
    after_step_failed,
    after_step_given_up,
    after_step_skipped,
    after_step_started,
    after_step_succeeded,
    after_step_unknown,
    retried_step,
    skipped_step,
)
from eventbraid.saga.machine._transition_checks import (
    refuse,
    require_known,
    require_stuck_at,
)
from eventbraid.saga.machine._wait_transitions import (
    after_signal_received,
    after_signal_refused,
    after_wait_ended,
    after_wait_started,
)


def fold(saga_id: str, events: Iterable[SagaEvent]) -> Progress:
    """Fold all events of a saga's stream.

    Raises:
        InvalidTransition: The status graph doesn't allow this sequence of events.
    """
    return fold_onto(Progress(saga_id), events)


def fold_onto(progress: Progress, events: Iterable[SagaEvent]) -> Progress:
    """Return the progress after more events.

    Raises:
        InvalidTransition: The status graph doesn't allow this sequence of events.
    """
    for event in events:
        progress = evolve(progress, event)
    return progress


def evolve(progress: Progress, event: SagaEvent) -> Progress:
    """Return the progress after one more event.

    Args:
        progress: The progress before.
        event: The event, which is recorded or about to be recorded.

    Raises:
        InvalidTransition: The status graph doesn't have this transition.
    """
    allowed, transition = _TRANSITIONS[type(event)]
    if progress.status not in allowed and not _is_early_decision(progress, event):
        statuses = " or ".join(sorted(status.value for status in allowed))
        refuse(progress, event, f"it must be {statuses} for that")
    if progress.blocked is not None and _ends_block(progress, event):
        progress = replace(progress, blocked=None)
    return transition(progress, event)


def _is_early_decision(progress: Progress, event: SagaEvent) -> bool:
    """Return whether a person decides about a step before the saga is stuck.

    With ``compensation_order="relaxed"``, a failed compensation makes the saga stuck
    only after all other compensations were attempted, and a failed step of a group
    only after the other steps have ended. But a person may retry or skip the failed
    one before that.
    """
    return (
        isinstance(event, RetriedByHand | SkippedByHand)
        and not progress.status.is_at_rest
        and event.step in progress.stuck_steps
    )


def _ends_block(progress: Progress, event: SagaEvent) -> bool:
    """Return whether a record proves that a blocked saga is no longer blocked."""
    blocked = progress.blocked
    if isinstance(event, SignalReceived):
        # Anyone can send a signal; it proves nothing about the program.
        return False
    if not progress.compensating or blocked is None:
        return True
    # A program in which `then` has a defect can't fold the state, and so makes no
    # compensation. So a record of a compensation proves that the defect is corrected.
    if blocked.where == "then":
        return True
    # While one compensation is blocked, the compensations of other steps are still
    # attempted. Only a record of the blocked step ends the block.
    return getattr(event, "step", blocked.step) == blocked.step


# --- records that belong to both directions -------------------------------------------


def _after_started(progress: Progress, event: SagaStarted) -> Progress:
    started = replace(
        progress,
        status=SagaStatus.RUNNING,
        saga=event.saga,
        version=event.version,
        graph_hash=event.graph_hash,
        graph=event.graph,
        input=event.input,
        deadline=event.deadline,
    )
    return with_root(started, entered(event.graph, 0))


def _after_stuck(progress: Progress, event: SagaStuck) -> Progress:
    if event.step not in progress.stuck_steps:
        refuse(progress, event, f"{event.step!r} hasn't failed for good")
    if not progress.compensating and len(progress.stuck_steps) < len(progress.steps):
        refuse(progress, event, "other steps are still executed")
    return replace(progress, status=SagaStatus.STUCK, stuck_for=event.reason)


def _after_defect(progress: Progress, event: DefectRecorded) -> Progress:
    require_known(progress, event, event.step)
    progress = replace(progress, blocked=event)
    if not event.attempt:
        return progress
    if progress.compensating:
        return after_defect_of_compensation(progress, event)
    return after_defect_of_step(progress, event)


def _after_retried_by_hand(progress: Progress, event: RetriedByHand) -> Progress:
    require_stuck_at(progress, event, event.step)
    if progress.compensating:
        return retried_compensation(progress, event)
    return retried_step(progress, event)


def _after_skipped_by_hand(progress: Progress, event: SkippedByHand) -> Progress:
    require_stuck_at(progress, event, event.step)
    if progress.compensating:
        return skipped_compensation(progress, event)
    return skipped_step(progress, event.step)


# --- the status graph -----------------------------------------------------------------

E = TypeVar("E", bound=SagaEvent)
_Transition = Callable[[Progress, SagaEvent], Progress]


def _from(
    *allowed: SagaStatus, to: Callable[[Progress, E], Progress]
) -> tuple[tuple[SagaStatus, ...], _Transition]:
    """Return the entry in `_TRANSITIONS` for a transition from some statuses.

    The statuses are a tuple and not a set, because hashing a member of an enum calls
    slow Python code.
    """
    return allowed, cast("_Transition", to)


_RUNNING, _COMPENSATING, _STUCK = (
    SagaStatus.RUNNING,
    SagaStatus.COMPENSATING,
    SagaStatus.STUCK,
)
_STARTED = (
    _RUNNING,
    _COMPENSATING,
    _STUCK,
    SagaStatus.COMPLETED,
    SagaStatus.COMPENSATED,
)

_TRANSITIONS: dict[type[SagaEvent], tuple[tuple[SagaStatus, ...], _Transition]] = {
    SagaStarted: _from(SagaStatus.NEW, to=_after_started),
    StepStarted: _from(_RUNNING, to=after_step_started),
    StepSucceeded: _from(_RUNNING, to=after_step_succeeded),
    StepFailed: _from(_RUNNING, to=after_step_failed),
    StepUnknown: _from(_RUNNING, to=after_step_unknown),
    StepSkipped: _from(_RUNNING, to=after_step_skipped),
    BranchChosen: _from(_RUNNING, to=after_branch_chosen),
    ItemsListed: _from(_RUNNING, to=after_items_listed),
    ItemsCompleted: _from(_RUNNING, to=after_items_completed),
    WaitStarted: _from(_RUNNING, to=after_wait_started),
    WaitEnded: _from(_RUNNING, to=after_wait_ended),
    SignalReceived: _from(_RUNNING, _COMPENSATING, _STUCK, to=after_signal_received),
    SignalRefused: _from(_RUNNING, to=after_signal_refused),
    StepGivenUp: _from(_RUNNING, to=after_step_given_up),
    StepAnsweredLate: _from(*_STARTED, to=after_step_answered_late),
    CompensationStarted: _from(_RUNNING, _STUCK, to=after_compensation_started),
    CompensationAttempted: _from(_COMPENSATING, to=after_compensation_attempted),
    StepCompensated: _from(_COMPENSATING, to=after_step_compensated),
    CompensationFailed: _from(_COMPENSATING, to=after_compensation_failed),
    SagaStuck: _from(_RUNNING, _COMPENSATING, to=_after_stuck),
    DefectRecorded: _from(_RUNNING, _COMPENSATING, to=_after_defect),
    RetriedByHand: _from(_STUCK, to=_after_retried_by_hand),
    SkippedByHand: _from(_STUCK, to=_after_skipped_by_hand),
    SagaCompleted: _from(_RUNNING, to=after_saga_completed),
    SagaCompensated: _from(_COMPENSATING, to=after_saga_compensated),
}
