"""The decisions about a saga's compensation: its start, its attempts and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from eventbraid.saga.definition._step import is_external
from eventbraid.saga.machine._compensation_plan import compensation_plan
from eventbraid.saga.machine._crashes import (
    CRASH,
    CRASHES_BEFORE_ALONE,
    crash_delay,
    killed,
)
from eventbraid.saga.machine._draft import Draft
from eventbraid.saga.machine._due_times import retry_due
from eventbraid.saga.machine._events import (
    CompensationAttempted,
    CompensationFailed,
    CompensationStarted,
    SagaCompensated,
    SagaStuck,
    StepCompensated,
)
from eventbraid.saga.machine._progress import SagaStatus

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from datetime import datetime

    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._draft import RecordDraft
    from eventbraid.saga.machine._events import CompensationReason
    from eventbraid.saga.machine._outcomes import CompensationFailure
    from eventbraid.saga.machine._progress import Progress


def start_compensation(
    draft: RecordDraft,
    reason: CompensationReason,
    *,
    step: str = "",
    detail: str = "",
    begin: bool = False,
) -> None:
    """Record that the compensation of the saga starts.

    Args:
        draft: The draft of the decision.
        reason: The cause.
        step: The step whose failure or unknown outcome is the cause; empty if no step
            is the cause.
        detail: The text for people.
        begin: Whether the first attempt to compensate is recorded, too.
    """
    plan = compensation_plan(draft.progress)
    draft.record(CompensationStarted(reason, plan, step, detail))
    if not plan:
        draft.record(SagaCompensated())
    elif begin:
        for first in _first_steps(draft, plan):
            draft.record(CompensationAttempted(first))


def _first_steps(draft: RecordDraft, plan: Sequence[str]) -> list[str]:
    """Return the steps that are compensated first; one without the declaration."""
    if not _has_declaration(draft):
        return [plan[0]]
    return ready_compensations(draft.saga, draft.progress, ())


def _has_declaration(draft: RecordDraft) -> TypeGuard[Draft[Any]]:
    return isinstance(draft, Draft)


def proceed(draft: Draft[Any], defective: Container[str]) -> None:
    """Record the start of the next attempt to compensate, or the compensation's end.

    Nothing is recorded here before an attempt that must be made alone. Its driver
    records the start, after the other calls have ended or the wait for them was too
    long.

    Args:
        draft: The draft of the decision.
        defective: The steps whose compensation has a defect in this program.
    """
    progress = draft.progress
    if progress.status is not SagaStatus.COMPENSATING:
        return
    if not progress.plan:
        draft.record(SagaCompensated())
        return
    steps = ready_compensations(draft.saga, progress, defective)
    if not steps:
        _wait_for_a_person(draft, defective)
        return
    for step in steps:
        attempts = progress.compensation(step).attempts
        if attempts.in_flight or attempts.crashes >= CRASHES_BEFORE_ALONE:
            continue
        rules = draft.saga.by_name[step].compensation_rules
        if retry_due(attempts, rules, draft.now) is None:
            draft.record(CompensationAttempted(step, attempts.number + 1))


def ready_compensations(
    saga: Saga[Any], progress: Progress, defective: Container[str]
) -> list[str]:
    """Return the steps whose compensation may be attempted now.

    A step is compensated after all steps that were executed after it. With
    ``compensation_order="relaxed"``, a step whose compensation failed for good, or has
    a defect, holds back none of the others.
    """
    attempted = progress.compensations
    possible = [
        step
        for step in progress.plan
        if (step not in attempted or attempted[step].failure is None)
        and step not in defective
    ]
    if len(possible) <= 1 and not saga.is_strict:
        return possible
    last = _last_steps(saga, progress.plan if saga.is_strict else possible)
    names = saga.declared_names(possible)
    ready = [step for step, name in zip(possible, names, strict=True) if name in last]
    return _bounded(saga, progress, ready) if saga.fan_outs else ready


def _last_steps(saga: Saga[Any], steps: Sequence[str]) -> set[str]:
    """Return the names of the steps that none of the other steps is executed after.

    These are the steps in the last node, of those that have some of the steps, of each
    of their sequences.
    """
    names = set(saga.declared_names(steps))
    last: dict[tuple[int, ...], int] = {}
    for name in names:
        for sequence, node in saga.places(name):
            last[sequence] = max(last.get(sequence, node), node)
    return {
        name
        for name in names
        if all(last[sequence] == node for sequence, node in saga.places(name))
    }


def _bounded(saga: Saga[Any], progress: Progress, ready: list[str]) -> list[str]:
    """Return the compensations without those of items that exceed the concurrency."""
    attempted = progress.compensations
    room = {step: group.concurrency for step, group in saga.fan_outs.items()}
    bounded: list[str] = []
    ready = [step for step in ready if step in attempted] + [
        step for step in ready if step not in attempted
    ]
    for step, name in zip(ready, saga.declared_names(ready), strict=True):
        if room.get(name) != 0:
            bounded.append(step)
            if name in room:
                room[name] -= 1
    return bounded


def _wait_for_a_person(draft: Draft[Any], defective: Container[str]) -> None:
    """Record that the saga is stuck, unless it is only blocked by defects.

    A defect needs a corrected program and not a person's decision.
    """
    progress = draft.progress
    has_defect = any(step in defective for step in progress.open_steps)
    if progress.stuck_steps and (draft.saga.is_strict or not has_defect):
        draft.record(_stuck(progress))


def end_without_attempts(draft: RecordDraft) -> None:
    """Record the end of a compensation whose plan is empty or has only failures."""
    progress = draft.progress
    if progress.open_steps:
        return
    draft.record(_stuck(progress) if progress.plan else SagaCompensated())


def _stuck(progress: Progress) -> SagaStuck:
    step = progress.stuck_steps[0]
    failure = progress.compensation(step).failure
    return SagaStuck(step, f"can't be compensated: {failure}")


# --- an attempt has ended -------------------------------------------------------------


def succeed(draft: Draft[Any], step: str, defective: Container[str]) -> None:
    """Record that a step was compensated, and the start of the next attempt."""
    attempts = draft.progress.compensation(step).attempts
    draft.record(StepCompensated(step, attempts.to_be_settled))
    proceed(draft, defective)


def fail(draft: Draft[Any], outcome: CompensationFailure) -> None:
    """Record a failed attempt to compensate, and what it leads to."""
    node = draft.saga.by_name[outcome.step]
    attempts, failure = draft.progress.compensation(node.name).attempts, outcome.failure
    attempt = attempts.to_be_settled
    counted = attempt - attempts.unspent
    # A rejected command may be accepted later. A receiver's proven refusal is final.
    is_final = is_external(node) and failure.doubt is None
    retry_at: datetime | None = None
    if node.compensation_rules.allows_another(counted) and not is_final:
        delay = node.compensation_rules.delay(counted, chance=outcome.chance)
        retry_at = draft.now + delay
    draft.record(
        CompensationFailed(
            node.name,
            failure.code,
            failure.message,
            attempt,
            failure.doubt,
            retry_at,
        )
    )
    if retry_at is None:
        proceed(draft, outcome.defective)


def end_crashed_attempts(draft: Draft[Any], chance: float) -> None:
    """Record the attempts to compensate that ended with their process."""
    for step in draft.progress.plan:
        if draft.progress.compensation(step).attempts.in_flight:
            draft.record(_crash_record(draft, step, chance))


def _crash_record(draft: Draft[Any], step: str, chance: float) -> CompensationFailed:
    attempts = draft.progress.compensation(step).attempts
    crashes_alone = attempts.crashes_alone + attempts.alone
    is_final = (
        crashes_alone >= draft.saga.by_name[step].compensation_rules.maximum_crashes
    )
    retry_at = draft.now + crash_delay(attempts.crashes + 1, chance=chance)
    return CompensationFailed(
        step,
        CRASH.code,
        killed(step, crashes_alone) if is_final else CRASH.message,
        attempts.number,
        CRASH.doubt,
        None if is_final else retry_at,
    )
