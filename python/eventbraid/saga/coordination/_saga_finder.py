"""Finds the run of a saga by its id, in this process or in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from anyio.lowlevel import checkpoint

from eventbraid.errors import InvalidArgument
from eventbraid.saga._text import shown_argument
from eventbraid.saga.running._worker import current_worker

if TYPE_CHECKING:
    from eventbraid.saga.coordination._attention_questions import AttentionQuestions
    from eventbraid.saga.coordination._blocked_registry import BlockedRegistry
    from eventbraid.saga.coordination._saga_intake import SagaIntake
    from eventbraid.saga.coordination._saga_loader import SagaLoader
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._starts import StartsInProgress
    from eventbraid.saga.running._run import Run


class SagaFinder:
    """Finds sagas that were started before.

    Args:
        registry: The sagas of this coordinator.
        blocked: Its blocked sagas.
        starts: The starts that are in progress here.
        loader: Reads sagas from the log.
        intake: Drives the sagas that were read.
        questions: Accepts the question whether a saga is blocked at another
            coordinator.
    """

    __slots__ = ("_blocked", "_intake", "_loader", "_questions", "_registry", "_starts")

    def __init__(
        self,
        *,
        registry: SagaRegistry,
        blocked: BlockedRegistry,
        starts: StartsInProgress,
        loader: SagaLoader,
        intake: SagaIntake,
        questions: AttentionQuestions,
    ) -> None:
        """Keep the other parts of the coordinator."""
        self._registry = registry
        self._blocked = blocked
        self._starts = starts
        self._loader = loader
        self._intake = intake
        self._questions = questions

    async def find(self, saga_id: str) -> Run[Any]:
        """Return the run of a saga, and drive the saga if it is unfinished.

        Raises:
            InvalidArgument: The id isn't text.
            SagaNotFound: No saga was started under the id.
            SagaBlocked: This program can't drive it.
            GraphMismatch: It was started with other steps under the same version.
        """
        text = cast("object", saga_id)
        if not isinstance(text, str):
            raise InvalidArgument("saga id", shown_argument(text), "it must be text")
        if current_worker() is not None:
            self._starts.end_permit_wait(saga_id)
        await self._starts.wait_for(saga_id)
        run = self._registry.find(saga_id) or self._registry.find_elsewhere(saga_id)
        if run is None or saga_id in self._blocked.sagas:
            # A blocked saga is read again, because its stream may have grown, or a
            # function that raised may succeed now.
            run = self._intake.accept(await self._loader.load(saga_id))
            self._questions.ask(run)
        else:
            await checkpoint()
        await self._intake.catch_up(run)
        return run
