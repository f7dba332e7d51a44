"""Reads recorded sagas back, as this program's declarations understand them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from eventbraid.errors import GraphMismatch, SagaBlocked, SagaNotFound
from eventbraid.saga._defect import Defect
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
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._shards import Shards
    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._records import StreamHead
    from eventbraid.saga.running._run import Run
    from eventbraid.saga.running._shard_lease import ShardLease


class SagaLoader:
    """The recorded sagas of a store."""

    __slots__ = ("_definitions", "_journal", "_open", "_registry", "_shards")

    def __init__(
        self,
        journal: Journal,
        definitions: DefinitionRegistry,
        registry: SagaRegistry,
        open_sagas: UnfinishedSagas,
        shards: Shards,
    ) -> None:
        """Read by a journal, and list in a registry what can't be driven."""
        self._journal = journal
        self._definitions = definitions
        self._registry = registry
        self._open = open_sagas
        self._shards = shards

    async def load(self, saga_id: str) -> Run[Any]:
        """Read one saga; one of these shards that can't be driven is listed as blocked.

        Args:
            saga_id: Its id.

        Raises:
            SagaNotFound: No saga was started under the id.
            SagaBlocked: This program can't drive it.
            GraphMismatch: It was started with other steps under the same version.
        """
        shard_lease = self._lease_for(saga_id)
        recorded = await self._journal.reader.read(saga_id)
        progress = Progress(saga_id)
        try:
            progress = self._journal.reader.progress(saga_id, recorded)
            saga = self._declaration(progress)
            return await self._journal.reader.restore(saga, saga_id, recorded)
        except Defect as defect:
            error = unfoldable_error(progress, defect)
            error.__cause__ = defect.error
            head = await self._journal.record_unfoldable(
                progress, head_of(recorded), defect, self._kept(shard_lease, saga_id)
            )
            self._block_here(shard_lease, progress, error, head)
            raise error from defect.error
        except SagaBlocked as error:
            self._block_here(shard_lease, progress, error, head_of(recorded))
            raise
        except GraphMismatch as error:
            needs_code = blocked_error(progress, f"{NEEDS_CODE}: {error}")
            self._block_here(shard_lease, progress, needs_code, head_of(recorded))
            raise

    async def progress(self, saga_id: str) -> Progress:
        """Read how far a saga is, whoever drives it.

        Raises:
            SagaNotFound: No saga was started under the id.
            SagaBlocked: Its stream can't be folded.
        """
        recorded = await self._journal.reader.read(saga_id)
        return self._journal.reader.progress(saga_id, recorded)

    async def check_graphs(self) -> None:
        """Refuse to coordinate beside sagas that were started with other steps.

        Whichever coordinator drives them: of two programs that take one version for
        different graphs, only one can be right.

        Raises:
            GraphMismatch: Names the first such version, its sagas, and the difference.
        """
        for (_, needed), group in [*self._open.groups.items()]:
            if needed is None or not self._definitions.contradicts(needed):
                continue
            for saga_id in [*group]:
                # A record that only looks like a start concerns no program but its own.
                with suppress(SagaBlocked, SagaNotFound):
                    self._refuse_graph(await self.progress(saga_id))

    async def load_for(self, saga_id: str, take: Callable[[Run[Any]], object]) -> None:
        """Read an unfinished saga; one that can't be driven is blocked and listed.

        Args:
            saga_id: Its id.
            take: Is called with it if it can be driven.
        """
        with suppress(SagaBlocked, SagaNotFound, GraphMismatch):
            take(await self.load(saga_id))

    # --- within ----------------------------------------------------------------------

    def _refuse_graph(self, progress: Progress) -> None:
        if progress.status.ended:
            return
        needed = progress.declaration
        groups = self._open.groups.items()
        found = [ids for (_, other), ids in groups if other == needed]
        saga_ids = sorted(saga_id for ids in found for saga_id in ids)
        self._definitions.refuse(progress, saga_ids)

    def _lease_for(self, saga_id: str) -> ShardLease | None:
        return self._shards.lease_for(saga_id, self._open.sagas.get(saga_id))

    def _block_here(
        self,
        shard_lease: ShardLease | None,
        progress: Progress,
        error: SagaBlocked,
        head: StreamHead,
    ) -> None:
        """List a saga as blocked, if it was this coordinator's all the while.

        If its shard was handed over during the read, its new holder judges, and the
        saga must not be listed here: it would be passed over when the shard comes back.
        Nor is it listed here if another coordinator can run it.
        """
        if shard_lease is None or self._kept(shard_lease, progress.id) is None:
            return
        needed = self._open.sagas.get(progress.id)
        is_foreign = needed is not None and needed not in self._shards.runs
        if needed is not None and is_foreign and self._shards.can_be_run(needed):
            return
        self._registry.add_blocked(progress, error, head, shard_lease)

    def _kept(self, shard_lease: ShardLease | None, saga_id: str) -> ShardLease | None:
        """Return the lease of a saga, if it is this coordinator's all the while."""
        return shard_lease if self._lease_for(saga_id) is shard_lease else None

    def _declaration(self, progress: Progress) -> Saga[Any]:
        saga = self._definitions.find(progress)
        if saga is None:
            raise blocked_error(
                progress, f"{NEEDS_CODE}: give its declaration to a coordinator"
            )
        if saga.graph_hash != progress.graph_hash:
            self._definitions.refuse(progress, [progress.id])
        return saga
