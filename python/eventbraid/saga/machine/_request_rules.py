"""The decisions on requests: start or cancel a saga, retry or skip a stuck step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga.machine._compensation_rules import (
    end_without_attempts,
    start_compensation,
)
from eventbraid.saga.machine._events import RetriedByHand, SagaStarted, SkippedByHand
from eventbraid.saga.machine._step_rules import advance_if_possible

if TYPE_CHECKING:
    from eventbraid.saga.machine._draft import Draft, RecordDraft
    from eventbraid.saga.machine._outcomes import (
        CancelRequest,
        RetryRequest,
        SkipRequest,
        Start,
    )
    from eventbraid.saga.machine._progress import Progress


def start(draft: Draft[Any], request: Start) -> None:
    """Record the start of a saga and, if requested, the start of its first step."""
    saga = draft.saga
    draft.record(
        SagaStarted(
            saga.name,
            saga.version,
            saga.graph_hash,
            saga.graph,
            draft.data.json,
            request.deadline,
        )
    )
    if request.proceeds:
        advance_if_possible(draft)


def cancel(draft: RecordDraft, request: CancelRequest) -> None:
    """Record the start of a compensation that a caller requested."""
    start_compensation(draft, "cancelled", detail=f"cancelled: {request.reason}")


def retry(draft: RecordDraft, request: RetryRequest) -> None:
    """Record that each step at which the saga is stuck is attempted again.

    A receiver may have stored its refusal under the idempotency key, and would only
    repeat it. So the key gets a new generation. But the key stays the same if an
    earlier attempt may have taken effect: with a new key, the effect could occur twice.
    """
    progress = draft.progress
    # If the saga isn't stuck, add one record nevertheless. The draft refuses it with
    # `InvalidTransition`, whose message has the saga's status.
    for step in progress.stuck_steps or (progress.current or "",):
        generation = _next_generation(progress, step)
        draft.record(RetriedByHand(step, request.by, request.note, generation))


def _next_generation(progress: Progress, step: str) -> int:
    if progress.compensating:
        compensation = progress.compensation(step)
        return compensation.generation + (compensation.attempts.doubt is None)
    doubt = progress.branch(step).attempts.doubt
    return progress.generations.get(step, 1) + (doubt is None)


def skip(draft: Draft[Any], request: SkipRequest) -> None:
    """Record that a stuck step or compensation is skipped, and what follows."""
    is_compensation = draft.progress.compensating
    draft.record(SkippedByHand(request.step, request.by, request.note))
    if is_compensation:
        end_without_attempts(draft)
    else:
        advance_if_possible(draft)
