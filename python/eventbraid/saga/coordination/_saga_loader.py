"""Reads recorded sagas from the log, with the declarations of this program."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from eventbraid.errors import GraphMismatch, SagaBlocked, SagaNotFound
from eventbraid.saga._defect_classification import Defect
from eventbraid.saga.machine._progress import Progress
from eventbraid.saga.running._blocked_error import (
    NEEDS_CODE,
    blocked_error,
    unfoldable_error,
)
from eventbraid.saga.running._records import head_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.saga.coordination._definition_registry import DefinitionRegistry
    from eventbraid.saga.coordination._live_coordinators import LiveCoordinators
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._shards import Shards
    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._records import StreamHead
    from eventbraid.saga.running._run import Run
    from eventbraid.saga.running._shard_lease import ShardLease


class SagaLoader:
    """Reads sagas, and adds those that can't be driven here to the blocked sagas.

    Args:
        journal: Reads the sagas' streams.
        definitions: The declarations of this program.
        registry: The sagas of this coordinator.
        unfinished: The unfinished sagas of the store.
        shards: The leases of this coordinator.
        live: The live coordinators.
    """

    __slots__ = (
        "_definitions",
        "_journal",
        "_live",
        "_reader",
        "_registry",
        "_shards",
        "_unfinished",
    )

    def __init__(
        self,
        *,
        journal: Journal,
        definitions: DefinitionRegistry,
        registry: SagaRegistry,
        unfinished: UnfinishedSagas,
        shards: Shards,
        live: LiveCoordinators,
    ) -> None:
        """Keep the other parts of the coordinator; nothing is read yet."""
        self._journal = journal
        self._reader = journal.reader
        self._definitions = definitions
        self._registry = registry
        self._unfinished = unfinished
        self._shards = shards
        self._live = live

    async def load(self, saga_id: str) -> Run[Any]:
        """Read one saga; add it to the blocked sagas if it can't be driven here.

        Args:
            saga_id: Its id.

        Raises:
            SagaNotFound: No saga was started under the id.
            SagaBlocked: This program can't drive it.
            GraphMismatch: It was started with other steps under the same version.
        """
        # The lease is looked up before the read. If it is lost during the read, the
        # saga isn't added to the blocked sagas.
        shard_lease = self._lease_for(saga_id)
        recorded = await self._reader.read(saga_id)
        progress = Progress(saga_id)
        try:
            progress = self._reader.progress(saga_id, recorded)
            saga = self._declaration(progress)
            return await self._reader.restore(saga, saga_id, recorded)
        except Defect as defect:
            error = unfoldable_error(progress, defect)
            error.__cause__ = defect.error
            head = await self._journal.record_unfoldable(
                progress, head_of(recorded), defect, self._if_kept(shard_lease, saga_id)
            )
            self._add_blocked(shard_lease, progress, error, head)
            raise error from defect.error
        except SagaBlocked as error:
            self._add_blocked(shard_lease, progress, error, head_of(recorded))
            raise
        except GraphMismatch as error:
            needs_code = blocked_error(progress, f"{NEEDS_CODE}: {error}")
            self._add_blocked(shard_lease, progress, needs_code, head_of(recorded))
            raise

    async def load_for(self, saga_id: str, take: Callable[[Run[Any]], object]) -> None:
        """Read an unfinished saga, and pass its run to a function unless it is blocked.

        Args:
            saga_id: Its id.
            take: Is called with the run if the saga can be driven.
        """
        with suppress(SagaBlocked, SagaNotFound, GraphMismatch):
            take(await self.load(saga_id))

    async def progress(self, saga_id: str) -> Progress:
        """Read the progress of a saga of any coordinator.

        Raises:
            SagaNotFound: No saga was started under the id.
            SagaBlocked: Its stream can't be folded.
        """
        recorded = await self._reader.read(saga_id)
        return self._reader.progress(saga_id, recorded)

    async def check_graphs(self) -> None:
        """Raise if the steps of an unfinished saga differ from its declaration here.

        The sagas of all coordinators are checked: if two programs have different graphs
        for one version, only one of them can be right.

        Raises:
            GraphMismatch: The error names the first such version, its sagas, and the
                difference of the graphs.
        """
        for (_, needed), group in [*self._unfinished.groups.items()]:
            if needed is None or not self._definitions.contradicts(needed):
                continue
            for saga_id in [*group]:
                # An application's event may look like the start of a saga. Such an
                # event must not prevent a coordinator from starting.
                with suppress(SagaBlocked, SagaNotFound):
                    self._refuse_graph(await self.progress(saga_id))

    # --- internal parts --------------------------------------------------------------

    def _refuse_graph(self, progress: Progress) -> None:
        if progress.status.ended:
            return
        needed = progress.declaration
        groups = self._unfinished.groups.items()
        found = [ids for (_, other), ids in groups if other == needed]
        saga_ids = sorted(saga_id for ids in found for saga_id in ids)
        self._definitions.refuse(progress, saga_ids)

    def _lease_for(self, saga_id: str) -> ShardLease | None:
        return self._shards.lease_for(saga_id, self._unfinished.needed_by(saga_id))

    def _if_kept(
        self, shard_lease: ShardLease | None, saga_id: str
    ) -> ShardLease | None:
        """Return the lease of a saga, if this coordinator still holds that lease."""
        return shard_lease if self._lease_for(saga_id) is shard_lease else None

    def _add_blocked(
        self,
        shard_lease: ShardLease | None,
        progress: Progress,
        error: SagaBlocked,
        head: StreamHead,
    ) -> None:
        """Add a saga to the blocked sagas, if this coordinator should drive it.

        If the shard was handed over during the read, the shard's new holder reports the
        saga. Then the saga must not be added here: a saga that is listed as blocked
        isn't read again when this coordinator gets the shard back. The saga isn't added
        either if another live coordinator can run it.
        """
        if shard_lease is None or self._if_kept(shard_lease, progress.id) is None:
            return
        needed = self._unfinished.needed_by(progress.id)
        is_foreign = needed is not None and needed not in self._live.own
        if needed is not None and is_foreign and self._live.can_run(needed):
            return
        self._registry.add_blocked(progress, error, head, shard_lease)

    def _declaration(self, progress: Progress) -> Saga[Any]:
        saga = self._definitions.find(progress)
        if saga is None:
            reason = f"{NEEDS_CODE}: give its declaration to a coordinator"
            raise blocked_error(progress, reason)
        if saga.graph_hash != progress.graph_hash:
            self._definitions.refuse(progress, [progress.id])
        return saga
