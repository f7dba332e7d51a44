"""The decisions about defects: each distinct defect is recorded once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from eventbraid.saga._defect_classification import traceback_of
from eventbraid.saga._text import shortened, text_of
from eventbraid.saga.machine._events import NOTHING, DefectRecorded
from eventbraid.saga.machine._progress import SagaStatus

if TYPE_CHECKING:
    from eventbraid.saga._defect_classification import Defect
    from eventbraid.saga.machine._draft import RecordDraft
    from eventbraid.saga.machine._outcomes import DefectFound, Unfoldable
    from eventbraid.saga.machine._progress import Progress

# The maximum number of compared characters, which is less than the maximum of a text in
# a record. Otherwise a text that was shortened for its record would never be equal to
# the same text of a new defect.
_MAXIMUM_COMPARED = 3_000
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


def record_defect(draft: RecordDraft, found: DefectFound) -> None:
    """Record a defect, unless it ended no attempt and is the same as the last one."""
    attempt = _ended_attempt(draft.progress, found.defect)
    record = _record_of(found.defect, attempt, keeps_answer=found.keeps_answer)
    if attempt or not _is_repeated(draft.progress.blocked, record):
        draft.record(record)


def record_unfoldable(draft: RecordDraft, found: Unfoldable) -> None:
    """Record a defect that prevents the fold of a saga's results.

    Nothing is recorded if the defect is the same as the last one. Nothing is recorded
    either if the saga is at rest, because no action of it depends on the fold.
    """
    if draft.progress.status not in {SagaStatus.RUNNING, SagaStatus.COMPENSATING}:
        return
    record = _record_of(found.defect, attempt=0, keeps_answer=True)
    if not _is_repeated(draft.progress.blocked, record):
        draft.record(record)


def _ended_attempt(progress: Progress, defect: Defect) -> int:
    """Return the number of the attempt that a defect ended; 0 if it ended none."""
    if defect.is_outage and defect.answer is None:
        return 0  # The attempt hasn't ended: it had no effect, and is made again.
    if progress.compensating:
        attempts = progress.compensation(defect.step).attempts
    else:
        attempts = progress.branch(defect.step).attempts
    return attempts.number if attempts.in_flight else 0


def _record_of(defect: Defect, attempt: int, *, keeps_answer: bool) -> DefectRecorded:
    error = defect.error
    answer = defect.answer if keeps_answer else None
    return DefectRecorded(
        defect.step,
        defect.where,
        type(error).__name__,
        text_of(error),
        traceback_of(error),
        attempt,
        NOTHING if answer is None else answer,
        answered=answer is not None,
    )


def _is_repeated(last: DefectRecorded | None, record: DefectRecorded) -> bool:
    """Return whether two records are of the same defect.

    Numbers in messages are ignored, because addresses and times differ at each
    occurrence.
    """
    return last is not None and _identity(last) == _identity(record)


def _identity(record: DefectRecorded) -> tuple[str, str, str, str]:
    message = _NUMBERS.sub("#", shortened(record.message, _MAXIMUM_COMPARED))
    return record.step, record.where, record.code, message
