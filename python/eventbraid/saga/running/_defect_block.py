"""Blocks a saga because of a defect in the code of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from eventbraid.errors import LimitExceeded
from eventbraid.saga._defect_classification import Defect, log_outage
from eventbraid.saga.machine._outcomes import DefectFound
from eventbraid.saga.running._blocked_error import blocked_error
from eventbraid.saga.running._pauses import MAXIMUM_OUTAGES

if TYPE_CHECKING:
    from eventbraid.saga._defect_classification import Outage
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._run import Run


class DefectBlock:
    """Records defects, and blocks their sagas."""

    __slots__ = ("_journal",)

    def __init__(self, journal: Journal) -> None:
        """Write records through a journal."""
        self._journal = journal

    async def block(self, run: Run[Any], defect: Defect) -> None:
        """Record a defect, and block the saga unless it is being compensated.

        Raises:
            SagaBlocked: The saga is blocked.
            VersionConflict: Another writer appended to the saga's stream.
        """
        events, state = run.decide(DefectFound(defect))
        if events:
            try:
                await self._journal.commit(run, events, state)
            except LimitExceeded:
                # The receiver's answer is too large for a record. So the defect is
                # recorded without the answer, and the receiver is called again after
                # the correction.
                found = DefectFound(defect, keeps_answer=False)
                await self._journal.commit(run, *run.decide(found))
        if run.state.progress.compensating:
            # The driver continues: `next_action` returns the compensation of another
            # step, or `Blocked` if none can be attempted.
            run.setbacks.add_defect(defect)
            return
        run.setbacks.add_block(is_outage=defect.is_outage)
        raise blocked_error(run.state.progress, defect.reason) from defect.error

    def raise_blocked(self, run: Run[Any]) -> NoReturn:
        """Raise `SagaBlocked`, because no remaining compensation can be attempted.

        Raises:
            SagaBlocked: Always; the error names the first defect.
        """
        defect = next(iter(run.setbacks.defects.values()))
        run.setbacks.add_block_of_compensations()
        raise blocked_error(run.state.progress, defect.reason) from defect.error


def blocking_defect(run: Run[Any], trouble: Defect | Outage) -> Defect:
    """Return the defect that blocks a saga; an outage that lasts long counts as one.

    If the saga's last recorded defect is the same outage, the outage is taken to have
    lasted since that record. So it blocks the saga again at once.

    Raises:
        Outage: The outage hasn't lasted long yet; the driver takes the action again
            after a pause.
    """
    if isinstance(trouble, Defect):
        return trouble
    outages = run.setbacks.add_outage()
    recorded, code = run.state.progress.blocked, type(trouble.error).__name__
    is_recorded = recorded is not None and (
        (recorded.step, recorded.where, recorded.code)
        == (trouble.step, trouble.where, code)
    )
    if not is_recorded and outages < MAXIMUM_OUTAGES:
        raise trouble
    log_outage(run.id, trouble)
    return trouble.as_defect()
