"""Shares the shards evenly, in each turn of the log follower."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.errors import OutcomeUnknown
from eventbraid.saga.coordination._record_handlers import cancel_timers

if TYPE_CHECKING:
    from collections.abc import Collection

    from eventbraid.saga.coordination._blocked_registry import BlockedRegistry
    from eventbraid.saga.coordination._live_coordinators import LiveCoordinators
    from eventbraid.saga.coordination._saga_intake import SagaIntake
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._shard_handover import ShardHandover
    from eventbraid.saga.coordination._shards import Shards
    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
    from eventbraid.saga.coordination._wakeup import Wakeup
    from eventbraid.saga.definition._declaration import Declaration


class ShardRebalancer:
    """Acquires and gives back leases, so that the live coordinators share them evenly.

    Args:
        handover: Acquires and gives back leases.
        shards: The leases of this coordinator.
        live: The live coordinators.
        unfinished: The unfinished sagas of the store.
        registry: The sagas of this coordinator.
        blocked: Its blocked sagas.
        intake: Reads the sagas that this coordinator must drive.
        wakeup: Is notified when the intake has sagas to read.
    """

    __slots__ = (
        "_blocked",
        "_handover",
        "_intake",
        "_is_outcome_unknown",
        "_live",
        "_registry",
        "_reviewed",
        "_shards",
        "_unfinished",
        "_wakeup",
    )

    def __init__(
        self,
        *,
        handover: ShardHandover,
        shards: Shards,
        live: LiveCoordinators,
        unfinished: UnfinishedSagas,
        registry: SagaRegistry,
        blocked: BlockedRegistry,
        intake: SagaIntake,
        wakeup: Wakeup,
    ) -> None:
        """Keep the other parts of the coordinator; no lease is changed yet."""
        self._handover = handover
        self._shards = shards
        self._live = live
        self._unfinished = unfinished
        self._registry = registry
        self._blocked = blocked
        self._intake = intake
        self._wakeup = wakeup
        self._is_outcome_unknown = False
        # The declarations of the live coordinators at the last review of blocked sagas.
        self._reviewed: Collection[Collection[Declaration]] = ()

    @property
    def must_repeat(self) -> bool:
        """Whether `run` must be called again soon, even without new records."""
        has_others = bool(self._live.own) and self._handover.has_other_coordinators
        return has_others or self._is_outcome_unknown

    async def run(self) -> None:
        """Rebalance: give back surplus shards, release idle leases, acquire shards."""
        try:
            plan = await self._handover.plan()
            leaving = self._handover.give_back(plan.give)
            leaving += await self._handover.delegate([*self._unfinished.groups])
            for shard_lease in leaving:
                await cancel_timers(self._registry.of(shard_lease))
            await self._handover.release_idle()
            await self._handover.acquire(plan)
        except OutcomeUnknown:
            # The log shows later whether the append was committed. So `run` is repeated
            # after a short interval, even without new records.
            self._is_outcome_unknown = True
        else:
            self._is_outcome_unknown = False
        self._review_blocked()

    def _review_blocked(self) -> None:
        """Update the blocked sagas after a change of the live coordinators.

        If the last coordinator that could run a saga has ended, the saga must be
        reported as blocked. When a coordinator that can run the saga joins, the saga
        isn't blocked any more.
        """
        able = [*self._live.capabilities.values()]
        if able == self._reviewed:
            return
        self._reviewed = able
        for (shard, needed), group in self._unfinished.groups.items():
            if needed is None or needed in self._live.own:
                continue
            if shard not in self._shards.held:
                continue
            if self._live.can_run(needed):
                self._blocked.remove_all({*group})
            else:
                self._intake.note_gain((shard, needed))
                self._wakeup.notify()
