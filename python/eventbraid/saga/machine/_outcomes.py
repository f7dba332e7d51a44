"""The arguments of a decision: the outcome of an action, or the request of a caller.

The package `running` builds an outcome from the result of a call, from an error, or
from the end of a process. An outcome also has the inputs that a pure function can't
compute: a random number from 0 to 1 for the jitter (``chance``), and the steps that
have defects in this program.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from eventbraid.saga._defect_classification import Defect
from eventbraid.saga.definition._codec import Encoded
from eventbraid.saga.definition._context import StepFailure
from eventbraid.saga.machine._events import NOTHING


class Proceed(msgspec.Struct, frozen=True):
    """Only time has passed: record what is due now.

    Attributes:
        defective: The steps whose compensation has a defect in this program.
    """

    defective: Container[str] = ()


class AttemptBegun(msgspec.Struct, frozen=True):
    """An attempt whose start isn't recorded yet is about to be made.

    Attributes:
        step: The step that is executed or compensated.
        alone: Whether the process makes no other call during the attempt.
    """

    step: str
    alone: bool = False


class NoLongerAlone(msgspec.Struct, frozen=True):
    """A call that was made alone waits for another saga, which also makes calls."""


# --- outcomes of a step ---------------------------------------------------------------


class Success(msgspec.Struct, frozen=True):
    """A step succeeded.

    Attributes:
        step: The step.
        result: Its result, as JSON.
        data: The saga's data after the step; None if the result doesn't change the
            data, or if the data can be folded only after the step's command is
            committed.
        doubted: The failure of the call, if the call failed and the receiver's answer
            to ``ask`` then proved that the step had succeeded; None otherwise.
        asked: Whether the receiver was asked for the outcome.
        proceeds: Whether the start of the next step is in the same commit. False if the
            data after this step aren't known yet, because ``skip_if`` of the next step
            may depend on them.
    """

    step: str
    result: msgspec.Raw = NOTHING
    data: Encoded[Any] | None = None
    doubted: StepFailure | None = None
    asked: bool = False
    proceeds: bool = True


class RefusedSuccess(msgspec.Struct, frozen=True):
    """A compensatable step succeeded, but the command from ``record`` was refused.

    Attributes:
        success: The success.
        failure: The refusal.
    """

    success: Success
    failure: StepFailure


class Failure(msgspec.Struct, frozen=True):
    """An attempt of a step failed.

    Attributes:
        step: The step.
        failure: The reason, and whether the attempt may have had an effect.
        facts: The facts behind the rejection of a command, as JSON.
        chance: The draw of the jitter.
        is_replaceable: Whether another command may take the step's place.
    """

    step: str
    failure: StepFailure
    facts: msgspec.Raw = NOTHING
    chance: float = 1.0
    is_replaceable: bool = True


class LateAnswer(msgspec.Struct, frozen=True):
    """A call was answered after the saga had continued without the answer.

    Attributes:
        step: The step.
        result: Its result, as JSON.
    """

    step: str
    result: msgspec.Raw


class CutOff(msgspec.Struct, frozen=True):
    """The coordinator was cancelled during a step's call, but the process continued.

    Attributes:
        step: The step.
    """

    step: str


class Crash(msgspec.Struct, frozen=True):
    """The process that drove the saga has ended, or counts as ended.

    Attributes:
        chance: The draw of the jitter.
    """

    chance: float = 1.0


class DefectFound(msgspec.Struct, frozen=True):
    """The code of a step has a bug, or an outage of that code has lasted too long.

    Attributes:
        defect: The bug.
        keeps_answer: Whether the answer of the receiver is recorded. An answer that is
            too large isn't recorded, and the call is made again.
    """

    defect: Defect
    keeps_answer: bool = True


class Unfoldable(msgspec.Struct, frozen=True):
    """A ``then`` has a bug that was found when the saga was read back.

    Attributes:
        defect: The bug.
    """

    defect: Defect


# --- outcomes of a compensation -------------------------------------------------------


class CompensationSuccess(msgspec.Struct, frozen=True):
    """A step was compensated.

    Attributes:
        step: The step.
        defective: The steps whose compensation has a defect in this program.
    """

    step: str
    defective: Container[str] = ()


class CompensationFailure(msgspec.Struct, frozen=True):
    """An attempt to compensate a step failed.

    Attributes:
        step: The step.
        failure: The reason, and whether the attempt may have had an effect.
        chance: The draw of the jitter.
        defective: The steps whose compensation has a defect in this program.
    """

    step: str
    failure: StepFailure
    chance: float = 1.0
    defective: Container[str] = ()


# --- requests of callers --------------------------------------------------------------


class Start(msgspec.Struct, frozen=True):
    """The request to start a saga; the state of the decision has the input.

    Attributes:
        deadline: The time after which it is compensated; None: there is none.
        proceeds: Whether the start of the first step is in the same commit. False if
            another coordinator drives the saga.
    """

    deadline: datetime | None
    proceeds: bool = True


class CancelRequest(msgspec.Struct, frozen=True):
    """The request to compensate the saga.

    Attributes:
        reason: The reason, for people.
    """

    reason: str


class RetryRequest(msgspec.Struct, frozen=True):
    """The request to retry each step or compensation at which the saga is stuck.

    Attributes:
        by: The person.
        note: The reason.
    """

    by: str
    note: str


class SkipRequest(msgspec.Struct, frozen=True):
    """The request to skip a step or compensation at which the saga is stuck.

    Attributes:
        step: The step, as the person named it.
        by: The person.
        note: The reason.
    """

    step: str
    by: str
    note: str


class SignalRequest(msgspec.Struct, frozen=True):
    """The request to keep a signal until a wait of the saga uses it.

    Attributes:
        signal: The signal's name.
        payload: Its payload, as JSON.
        by: The person or the program that sends it; may be empty.
        note: The reason; may be empty.
    """

    signal: str
    payload: msgspec.Raw
    by: str = ""
    note: str = ""


Request: TypeAlias = Start | CancelRequest | RetryRequest | SkipRequest | SignalRequest

ActionOutcome: TypeAlias = (
    Proceed
    | AttemptBegun
    | NoLongerAlone
    | Success
    | RefusedSuccess
    | Failure
    | LateAnswer
    | CutOff
    | Crash
    | DefectFound
    | Unfoldable
    | CompensationSuccess
    | CompensationFailure
)

WithoutDeclaration: TypeAlias = (
    CancelRequest | RetryRequest | SignalRequest | Unfoldable
)
"""The arguments of decisions that need only the records, not the declaration."""
