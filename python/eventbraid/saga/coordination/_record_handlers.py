"""Handles each new record of the log for one coordinator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.saga.machine._events import (
    ATTENTION_TYPE,
    BY_HAND_TYPES,
    COMPENSATION_STARTED_TYPE,
    COORDINATORS_STREAM,
    COORDINATORS_TYPE,
    ENDED_TYPES,
    SIGNAL_TYPE,
    STARTED_TYPE,
    STUCK_TYPE,
)
from eventbraid.saga.running._pace import Pace
from eventbraid.saga.running._shard_mapping import shard_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.saga.coordination._attention_exchange import AttentionExchange
    from eventbraid.saga.coordination._blocked_registry import BlockedRegistry
    from eventbraid.saga.coordination._live_coordinators import LiveCoordinators
    from eventbraid.saga.coordination._saga_intake import SagaIntake
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._shards import Shards
    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
    from eventbraid.saga.coordination._worker_pool import WorkerPool
    from eventbraid.saga.running._run import Run
    from eventbraid.store import RecordedEvent

_LEASE_TYPES = ("lease.acquired", "lease.released")
# The records after which the next action of a saga must be planned again.
_DECISION_TYPES = frozenset({*BY_HAND_TYPES, COMPENSATION_STARTED_TYPE})

TYPES = (
    *_LEASE_TYPES,
    *BY_HAND_TYPES,
    *ENDED_TYPES,
    ATTENTION_TYPE,
    COORDINATORS_TYPE,
    SIGNAL_TYPE,
    STARTED_TYPE,
    STUCK_TYPE,
    COMPENSATION_STARTED_TYPE,
)
"""The types of the records that are handled."""


class RecordHandlers:
    """Handles the records of the log, in their order.

    Args:
        unfinished: The unfinished sagas of the store.
        registry: The sagas of this coordinator.
        blocked: Its blocked sagas.
        shards: Its leases.
        live: The live coordinators.
        intake: Reads the sagas that this coordinator must drive.
        attention: The exchange about blocked sagas.
        workers: Drive the sagas.
    """

    __slots__ = (
        "_attention",
        "_blocked",
        "_intake",
        "_live",
        "_registry",
        "_shards",
        "_unfinished",
        "_workers",
    )

    def __init__(
        self,
        *,
        unfinished: UnfinishedSagas,
        registry: SagaRegistry,
        blocked: BlockedRegistry,
        shards: Shards,
        live: LiveCoordinators,
        intake: SagaIntake,
        attention: AttentionExchange,
        workers: WorkerPool,
    ) -> None:
        """Keep the other parts of the coordinator; nothing is handled yet."""
        self._unfinished = unfinished
        self._registry = registry
        self._blocked = blocked
        self._shards = shards
        self._live = live
        self._intake = intake
        self._attention = attention
        self._workers = workers

    async def handle(self, recorded: RecordedEvent) -> None:
        """Handle the next record."""
        self._unfinished.fold(recorded)
        if recorded.type in _LEASE_TYPES:
            await self._handle_lease(recorded)
        elif recorded.type == COORDINATORS_TYPE:
            if recorded.stream == COORDINATORS_STREAM:
                self._live.note(recorded)
        elif recorded.type == ATTENTION_TYPE:
            self._attention.note(recorded)
        else:
            await self._handle_saga(recorded)

    async def _handle_lease(self, recorded: RecordedEvent) -> None:
        shard = shard_in(recorded.stream)
        if shard is None:
            return
        ended, gained = self._shards.note(recorded)
        self._registry.reopen(shard)
        if ended is not None:
            # If a saga is in the middle of an action, the store refuses the saga's next
            # record, and this refusal ends the saga's task. A saga that waits for a
            # timer has no task, so its timer is cancelled here.
            self._intake.note_loss((ended.shard, ended.needed))
            await cancel_timers(self._registry.hand_over(ended))
        if gained is not None:
            self._intake.note_gain(gained)

    async def _handle_saga(self, recorded: RecordedEvent) -> None:
        saga_id, what = recorded.stream, recorded.type
        if what == STARTED_TYPE:
            self._intake.note_start(saga_id)
            return
        if recorded.version <= self._handled_version(saga_id):
            return
        run = self._registry.find(saga_id)
        if saga_id in self._blocked.sagas:
            # Another coordinator has recorded a person's decision about the blocked
            # saga.
            self._intake.request_reread(saga_id)
        elif run is None:
            run = self._registry.find_elsewhere(saga_id)
            if run is not None:
                await self._intake.catch_up(run)
        elif self._registry.is_at_work(run):
            run.wake()
        elif what in _DECISION_TYPES:
            self._workers.work_again(run)

    def _handled_version(self, saga_id: str) -> int:
        """Return the version up to which the records of a saga need no handling.

        Such records are folded already, or this coordinator has appended them. The log
        follower may read a record before the append of the record returns. So before
        the append, a run notes the version that the append will reach (`Run.claimed`).
        """
        blocked = self._blocked.sagas.get(saga_id)
        if blocked is not None:
            return blocked.version
        run = self._registry.find(saga_id) or self._registry.find_elsewhere(saga_id)
        return 0 if run is None else run.claimed


async def cancel_timers(runs: Iterable[Run[Any]]) -> None:
    """Cancel the timers of sagas whose lease has ended or is given back."""
    pace = Pace()
    for run in runs:
        run.cancel_timer()
        await pace.yield_if_due()
