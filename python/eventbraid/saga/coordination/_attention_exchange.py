"""The exchange with other coordinators about blocked sagas.

A caller may wait for a saga at any coordinator, also at one that doesn't drive the
saga. If the saga is blocked, the coordinator that has its shard reports this in the
log. The other coordinators read the report and notify their waiting callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.errors import OutcomeUnknown
from eventbraid.saga.machine._events import ATTENTION_STREAM
from eventbraid.saga.running._blocked_error import blocked_error

if TYPE_CHECKING:
    from eventbraid.saga.coordination._attention_questions import AttentionQuestions
    from eventbraid.saga.coordination._attention_reporter import AttentionReporter
    from eventbraid.saga.coordination._blocked_registry import BlockedRegistry
    from eventbraid.saga.coordination._saga_intake import SagaIntake
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.running._run import Run
    from eventbraid.store import RecordedEvent


class AttentionExchange:
    """Reports this coordinator's blocked sagas, and finds those of other coordinators.

    Only the log follower calls these methods, so no two of them run at the same time.

    Args:
        reporter: Writes and reads the notices in the log.
        questions: The questions of this coordinator's callers.
        registry: The sagas of this coordinator.
        blocked: Its blocked sagas.
        intake: Reads a saga again whose stream has grown.
    """

    __slots__ = ("_blocked", "_intake", "_questions", "_registry", "_reporter")

    def __init__(
        self,
        reporter: AttentionReporter,
        questions: AttentionQuestions,
        registry: SagaRegistry,
        blocked: BlockedRegistry,
        intake: SagaIntake,
    ) -> None:
        """Keep the other parts of the coordinator; nothing is reported yet."""
        self._reporter = reporter
        self._questions = questions
        self._registry = registry
        self._blocked = blocked
        self._intake = intake

    def note(self, recorded: RecordedEvent) -> None:
        """Handle a record of the attention stream.

        If a caller waits here for the saga of the record, ask about that saga.
        """
        if recorded.stream != ATTENTION_STREAM:
            return
        saga_id = self._reporter.note(recorded)
        run = None if saga_id is None else self._registry.find_elsewhere(saga_id)
        if run is not None:
            self._questions.ask(run)

    async def report(self) -> None:
        """Report the sagas that were blocked here since the last call."""
        unreported = self._blocked.take_unreported()
        try:
            grown = await self._reporter.report(unreported)
        except OutcomeUnknown:
            self._blocked.put_back(unreported)
            return
        for saga_id in grown:
            self._intake.request_reread(saga_id)

    async def answer(self) -> None:
        """Notify callers here whose saga is blocked at another coordinator."""
        asked = self._questions.take()
        for run in asked:
            await self._intake.catch_up(run)
        versions = {run: run.version for run in asked if self._is_waited_for(run)}
        if not versions:
            return
        reasons = await self._reporter.reasons(versions)
        for run, version in versions.items():
            reason = reasons.get(run.id)
            # Another task may have read newer records of the saga meanwhile.
            is_unchanged = run.version == version and self._is_waited_for(run)
            if reason is not None and is_unchanged:
                run.mark_at_rest(blocked_error(run.progress, reason))

    def _is_waited_for(self, run: Run[Any]) -> bool:
        """Return whether a saga is driven elsewhere and isn't at rest yet."""
        return self._registry.is_elsewhere(run) and not run.at_rest.is_set()
