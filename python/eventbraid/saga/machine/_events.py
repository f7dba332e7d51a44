"""The records of sagas: the events in a saga's stream, and those of coordinators.

The progress of a saga and its timeline are folds of its stream. Records refer to steps
by their names.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from eventbraid.event import register_event
from eventbraid.saga.definition._context import Doubt
from eventbraid.saga.definition._graph import Graph

NOTHING = msgspec.Raw(b"null")

CompensationReason = Literal["failed", "unknown", "deadline", "cancelled"]


@register_event("saga.started")
class SagaStarted(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The saga was started; this first record has its declaration and its input."""

    saga: str
    version: int
    graph_hash: str
    graph: Graph
    input: msgspec.Raw
    deadline: datetime | None = None


@register_event("saga.step_started")
class StepStarted(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An attempt of a step is about to be made.

    The attempt of a local step is recorded only after a takeover or a crash.

    Attributes:
        step: The step's name.
        attempt: The number of the attempt.
        alone: Whether the process makes no other call during the attempt. If so, and if
            the process ends during the attempt, only this call can be the cause. If the
            call waits for another saga, it is no longer alone, and the start of the
            attempt is recorded again.
    """

    step: str
    attempt: int = 1
    alone: bool = False


@register_event("saga.step_succeeded")
class StepSucceeded(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A step succeeded.

    Attributes:
        step: The step's name.
        attempt: The number of the attempt.
        result: Its result, as JSON.
        asked: Whether the receiver was asked for the outcome.
    """

    step: str
    attempt: int = 1
    result: msgspec.Raw = NOTHING
    asked: bool = False


@register_event("saga.step_failed")
class StepFailed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An attempt certainly had no effect: the receiver or a business rule refused it.

    Attributes:
        step: The step's name.
        code: The rejection's code, or the name of the exception's class.
        message: The text for people.
        attempt: The attempt that failed.
        facts: The facts behind the refusal, as JSON.
        retry_at: The time at which the next attempt is due; None: there is none.
        crashed: Whether the process ended during the attempt of a local step, before
            the commit.
    """

    step: str
    code: str
    message: str
    attempt: int = 1
    facts: msgspec.Raw = NOTHING
    retry_at: datetime | None = None
    crashed: bool = False


@register_event("saga.step_unknown")
class StepUnknown(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An attempt may have had an effect, or may have one later.

    Attributes:
        step: The step's name.
        why: ``"timeout"``, ``"crash"`` or ``"lost"``.
        code: The name of the exception's class, if there was one.
        message: The exception's text.
        attempt: The attempt.
        retry_at: The time at which the next attempt is due; None: there is none.
        cancelled: Whether the coordinator was ended from outside during the call, and
            recorded this itself. If so, the call isn't the cause.
    """

    step: str
    why: Doubt
    code: str = ""
    message: str = ""
    attempt: int = 1
    retry_at: datetime | None = None
    cancelled: bool = False


@register_event("saga.step_skipped")
class StepSkipped(msgspec.Struct, frozen=True, gc=False):
    """The step was skipped, because it isn't needed."""

    step: str
    reason: str


@register_event("saga.branch_chosen")
class BranchChosen(msgspec.Struct, frozen=True, gc=False):
    """The saga has reached a choice.

    Attributes:
        choice: The name of the choice.
        condition: Whether its condition was true.
    """

    choice: str
    condition: bool


@register_event("saga.items_listed")
class ItemsListed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The saga has reached a step that is executed for each item.

    Attributes:
        step: The step's name.
        keys: The keys of the items.
        concurrency: The maximum number of items whose step is executed at the same
            time.
    """

    step: str
    keys: tuple[str, ...]
    concurrency: int


@register_event("saga.items_completed")
class ItemsCompleted(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A step that is executed for each item is settled for all items.

    Attributes:
        step: The step's name.
        without_result: The keys of the items whose step has no result, because it was
            skipped or replaced by another command.
    """

    step: str
    without_result: tuple[str, ...] = ()


@register_event("saga.wait_started")
class WaitStarted(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The saga waits, and records nothing until the wait ends.

    Attributes:
        step: The step's name.
        until: The time at which the wait ends if there is no signal; None: it has no
            end.
    """

    step: str
    until: datetime | None = None


@register_event("saga.signal_received")
class SignalReceived(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A signal was sent to the saga, which may not wait for it yet.

    Attributes:
        signal: The signal's name.
        payload: Its payload, as JSON.
        by: The person or the program that sent it; empty if not given.
        note: The reason; empty if not given.
    """

    signal: str
    payload: msgspec.Raw = NOTHING
    by: str = ""
    note: str = ""


@register_event("saga.signal_refused")
class SignalRefused(msgspec.Struct, frozen=True, gc=False):
    """A signal can't end the wait for it, because its payload has another type.

    Attributes:
        signal: The signal's name.
        number: Its number, from 1, among all signals that the saga has received.
        reason: The reason, for people.
    """

    signal: str
    number: int
    reason: str


@register_event("saga.wait_ended")
class WaitEnded(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The wait has ended with a signal, or because its time has come.

    Attributes:
        step: The step's name.
        signal: The name of the signal; empty if the time has come.
        number: Its number, from 1, among all signals that the saga has received; 0 if
            the time has come.
    """

    step: str
    signal: str = ""
    number: int = 0


@register_event("saga.step_given_up")
class StepGivenUp(msgspec.Struct, frozen=True, gc=False):
    """The step failed for good and another command replaced it; the saga continues."""

    step: str


@register_event("saga.step_answered_late")
class StepAnsweredLate(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An answer arrived after the saga had continued; only a compensation uses it."""

    step: str
    attempt: int = 1
    result: msgspec.Raw = NOTHING


@register_event("saga.compensation_started")
class CompensationStarted(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The saga is compensated from now on.

    Attributes:
        reason: The cause.
        plan: The steps to be compensated, in this order.
        step: The step whose failure or unknown outcome is the cause; empty if no step
            is the cause.
        detail: The text for people.
    """

    reason: CompensationReason
    plan: tuple[str, ...]
    step: str = ""
    detail: str = ""


@register_event("saga.compensation_attempted")
class CompensationAttempted(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An attempt to compensate a step is about to be made.

    Attributes:
        step: The step's name.
        attempt: The number of the attempt.
        alone: Whether the process makes no other call during the attempt. If so, and if
            the process ends during the attempt, only this call can be the cause. If the
            call waits for another saga, it is no longer alone, and the start of the
            attempt is recorded again.
    """

    step: str
    attempt: int = 1
    alone: bool = False


@register_event("saga.step_compensated")
class StepCompensated(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A step was compensated."""

    step: str
    attempt: int = 1


@register_event("saga.compensation_failed")
class CompensationFailed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An attempt to compensate a step failed.

    Attributes:
        step: The step's name.
        code: The rejection's code, or the name of the exception's class.
        message: The text for people.
        attempt: The attempt that failed.
        doubt: The reason why the attempt may have had an effect; None if it certainly
            had no effect.
        retry_at: The time at which the next attempt is due; None: there is none.
    """

    step: str
    code: str
    message: str
    attempt: int = 1
    doubt: Doubt | None = None
    retry_at: datetime | None = None


@register_event("saga.stuck")
class SagaStuck(msgspec.Struct, frozen=True, gc=False):
    """A step failed for good, so a person must retry or skip it."""

    step: str
    reason: str


@register_event("saga.blocked")
class DefectRecorded(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The code of a step has a bug, so the saga waits for a corrected program.

    An attempt that a defect ended isn't a failure, and doesn't count against the step's
    limit of attempts.

    Attributes:
        step: The step's name.
        where: The function of the step that raised, such as ``"action"`` or ``"then"``.
        code: The name of the exception's class.
        message: The exception's text.
        traceback: The end of its traceback.
        attempt: The attempt that the defect ended; 0 if it ended none.
        answer: The answer that the receiver gave before the defect, as JSON. Because of
            this record, the call needn't be made again.
        answered: Whether the receiver answered before the defect.
    """

    step: str
    where: str
    code: str
    message: str = ""
    traceback: str = ""
    attempt: int = 0
    answer: msgspec.Raw = NOTHING
    answered: bool = False


@register_event("saga.retried_by_hand")
class RetriedByHand(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A person decided that the stuck step is attempted again.

    Attributes:
        step: The step's name.
        by: The person.
        note: The reason.
        generation: The generation of the step's idempotency key for the next attempts.
    """

    step: str
    by: str
    note: str
    generation: int = 1


@register_event("saga.skipped_by_hand")
class SkippedByHand(msgspec.Struct, frozen=True, gc=False):
    """A person decided that the stuck step counts as settled."""

    step: str
    by: str
    note: str


@register_event("saga.completed")
class SagaCompleted(msgspec.Struct, frozen=True, gc=False):
    """Every step is settled: the saga has ended."""


@register_event("saga.compensated")
class SagaCompensated(msgspec.Struct, frozen=True, gc=False):
    """Every step that had an effect was compensated: the saga has ended."""


@register_event("saga.needs_attention")
class SagaNeedsAttention(msgspec.Struct, frozen=True, gc=False):
    """A saga is stuck or blocked: a notice on the stream ``saga-attention``.

    The notice of a stuck saga is in the same commit as the `SagaStuck` record in the
    saga's own stream.
    """

    saga_id: str
    saga: str
    step: str
    reason: str


@register_event("saga.checkpoint")
class SagaCheckpoint(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The sagas that were unfinished at a position of the log.

    Attributes:
        position: The position.
        open: The ids of these sagas.
        declarations: The declarations that they need: name, version and graph hash.
        needs: For each id the index of its declaration; -1 if the declaration couldn't
            be read.
    """

    position: int
    open: tuple[str, ...]
    declarations: tuple[tuple[str, int, str], ...] = ()
    needs: tuple[int, ...] = ()


@register_event("saga.coordinators")
class CoordinatorsChanged(msgspec.Struct, frozen=True, gc=False):
    """The coordinators of a store, after a coordinator has joined or left.

    Each record has all coordinators, so only the last record has to be read.

    Attributes:
        members: The coordinators in the order in which they joined, each with the index
            of its declarations.
        declarations: The distinct sets of declarations: names, versions and graph
            hashes.
    """

    members: tuple[tuple[str, int], ...]
    declarations: tuple[tuple[tuple[str, int, str], ...], ...]


SagaEvent: TypeAlias = (
    SagaStarted
    | StepStarted
    | StepSucceeded
    | StepFailed
    | StepUnknown
    | StepSkipped
    | BranchChosen
    | ItemsListed
    | ItemsCompleted
    | WaitStarted
    | SignalReceived
    | SignalRefused
    | WaitEnded
    | StepGivenUp
    | StepAnsweredLate
    | CompensationStarted
    | CompensationAttempted
    | StepCompensated
    | CompensationFailed
    | SagaStuck
    | DefectRecorded
    | RetriedByHand
    | SkippedByHand
    | SagaCompleted
    | SagaCompensated
)

STARTED_TYPE = "saga.started"
STUCK_TYPE = "saga.stuck"
COMPENSATION_STARTED_TYPE = "saga.compensation_started"
ENDED_TYPES = ("saga.completed", "saga.compensated")
SIGNAL_TYPE = "saga.signal_received"
BY_HAND_TYPES = ("saga.retried_by_hand", "saga.skipped_by_hand")
ATTENTION_STREAM = "saga-attention"
ATTENTION_TYPE = "saga.needs_attention"
CHECKPOINT_STREAM = "$saga-checkpoint"
COORDINATORS_STREAM = "$saga-coordinators"
COORDINATORS_TYPE = "saga.coordinators"
