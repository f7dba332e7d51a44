"""Builds the contexts that are passed to the functions of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import structs

from eventbraid.saga.definition._context import StepContext
from eventbraid.saga.machine._idempotency_keys import compensation_key, forward_key
from eventbraid.saga.machine._item_rules import state_for

if TYPE_CHECKING:
    from eventbraid.saga.definition._step_base import SagaStep
    from eventbraid.saga.running._run import Run


def step_context(run: Run[Any], node: SagaStep[Any], attempt: int) -> StepContext[Any]:
    """Return the context for the functions of a step other than its compensation."""
    key = forward_key(run.state.progress, node.name)
    return StepContext(
        state=(
            state_for(run.saga, run.state, node.name)
            if run.saga.fan_outs
            else run.state.data.read()
        ),
        saga_id=run.id,
        step=node.name,
        attempt=attempt,
        idempotency_key=key,
        forward_key=key,
        deadline=run.state.progress.deadline,
    )


def compensation_context(
    run: Run[Any], node: SagaStep[Any], attempt: int
) -> StepContext[Any]:
    """Return the context for the compensation of a step."""
    return StepContext(
        state=state_for(run.saga, run.state, node.name),
        saga_id=run.id,
        step=node.name,
        attempt=attempt,
        idempotency_key=compensation_key(run.state.progress, node.name),
        forward_key=forward_key(run.state.progress, node.name),
        deadline=run.state.progress.deadline,
        failure=run.state.progress.failure,
    )


def renewed(context: StepContext[Any], run: Run[Any]) -> StepContext[Any]:
    """Return the context for the next function of the same attempt.

    A mutable state is decoded again for each function. Otherwise a function would see
    the changes that the previous function made to the object. After a crash between the
    two, it wouldn't see them.
    """
    if run.saga.state_codec.is_frozen:
        return context
    state = state_for(run.saga, run.state, context.step)
    return structs.replace(context, state=state)
