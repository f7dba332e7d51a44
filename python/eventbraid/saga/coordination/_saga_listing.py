"""Lists the sagas of a store that have not ended: at work, stuck or blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from eventbraid.errors import SagaBlocked, SagaNotFound
from eventbraid.saga.coordination._saga_summary import blocked_summary_of, summary_of
from eventbraid.saga.machine._progress import Progress, SagaStatus
from eventbraid.saga.running._blocked_error import NEEDS_CODE
from eventbraid.saga.running._pace import Pace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbraid.saga.coordination._blocked_registry import BlockedRegistry
    from eventbraid.saga.coordination._live_coordinators import LiveCoordinators
    from eventbraid.saga.coordination._saga_loader import SagaLoader
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._saga_summary import SagaSummary
    from eventbraid.saga.coordination._shard_handover import ShardHandover
    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
    from eventbraid.saga.definition._declaration import Declaration


class SagaListing:
    """Lists the sagas of all coordinators.

    Args:
        registry: The sagas of this coordinator.
        blocked: Its blocked sagas.
        unfinished: The unfinished sagas of the store.
        loader: Reads sagas from the log.
        live: The live coordinators.
        handover: Finds out which coordinators are live.
    """

    __slots__ = (
        "_blocked",
        "_handover",
        "_live",
        "_loader",
        "_registry",
        "_unfinished",
    )

    def __init__(
        self,
        *,
        registry: SagaRegistry,
        blocked: BlockedRegistry,
        unfinished: UnfinishedSagas,
        loader: SagaLoader,
        live: LiveCoordinators,
        handover: ShardHandover,
    ) -> None:
        """Keep the other parts of the coordinator; nothing is read yet."""
        self._registry = registry
        self._blocked = blocked
        self._unfinished = unfinished
        self._loader = loader
        self._live = live
        self._handover = handover

    async def all(self) -> Sequence[SagaSummary]:
        """List all sagas that have not ended, the stuck ones included."""
        await checkpoint()
        return [*await self._registry.summaries(), *await self._of_others()]

    async def stuck(self) -> Sequence[SagaSummary]:
        """List the stuck sagas that are not blocked."""
        return [
            summary
            for summary in await self.all()
            if summary.status is SagaStatus.STUCK and not summary.blocked
        ]

    async def blocked(self) -> Sequence[SagaSummary]:
        """List the sagas that are blocked here or that no live coordinator can run."""
        await checkpoint()
        here = await self._blocked.summaries()
        return [*here, *await self._of_others(only_blocked=True)]

    async def _of_others(self, *, only_blocked: bool = False) -> Sequence[SagaSummary]:
        """Read the sagas of other coordinators from the store, and list them."""
        found: list[SagaSummary] = []
        await self._unfinished.catch_up()
        await self._handover.check_live()
        pace = Pace()
        for saga_id, needed in [*self._unfinished.sagas.items()]:
            await pace.yield_if_due()
            lacks_code = needed is not None and not self._live.can_run(needed)
            if self._registry.is_listed(saga_id) or (only_blocked and not lacks_code):
                continue
            summary = await self._summary(saga_id, needed if lacks_code else None)
            # A saga may have ended since the log was folded.
            if summary is not None and not summary.status.ended:
                found.append(summary)
        return found

    async def _summary(
        self, saga_id: str, missing: Declaration | None
    ) -> SagaSummary | None:
        """Read the summary of a saga; return None if the stream isn't a saga's.

        Args:
            saga_id: Its id.
            missing: The declaration of the saga, if no live coordinator has it.
        """
        try:
            progress = await self._loader.progress(saga_id)
        except SagaBlocked as error:
            progress = Progress(saga_id, stuck_for=error.reason)
        except SagaNotFound:
            return None
        if missing is None:
            return summary_of(progress)
        reason = f"{NEEDS_CODE}: no live coordinator has its declaration"
        return blocked_summary_of(progress, reason)
