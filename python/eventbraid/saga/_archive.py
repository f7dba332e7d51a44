"""Reads recorded sagas back, as this program's declarations understand them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.errors import GraphMismatch, SagaParked
from eventbraid.saga._journal import parked
from eventbraid.saga._progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eventbraid.saga._definition import Saga
    from eventbraid.saga._handle import Run
    from eventbraid.saga._journal import Journal
    from eventbraid.saga._library import Library
    from eventbraid.saga._roster import Roster
    from eventbraid.saga._shards import Shards, Tenure
    from eventbraid.store import RecordedEvent


class Archive:
    """The recorded sagas of a store."""

    __slots__ = ("_journal", "_library", "_roster", "_shards")

    def __init__(
        self, journal: Journal, library: Library, roster: Roster, shards: Shards
    ) -> None:
        """Read by a journal, and list in a roster what can't be understood."""
        self._journal = journal
        self._library = library
        self._roster = roster
        self._shards = shards

    async def load(self, saga_id: str) -> Run[Any]:
        """Read one saga; one of these shards that can't be driven is listed as parked.

        Args:
            saga_id: Its id.

        Raises:
            SagaNotFound: No saga was started under the id.
            SagaParked: This program can't drive it.
        """
        tenure = self._shards.tenure_of(saga_id)
        recorded = await self._journal.read(saga_id)
        progress = Progress(saga_id)
        try:
            progress = self._journal.progress(saga_id, recorded)
            saga = self._declaration(progress)
            return await self._journal.restore(saga, saga_id, recorded)
        except SagaParked as error:
            self._park(tenure, progress, error, recorded)
            raise

    async def progress(self, saga_id: str) -> Progress:
        """Read how far a saga is, whoever drives it.

        Raises:
            SagaParked: Its stream can't be folded.
        """
        recorded = await self._journal.read(saga_id)
        return self._journal.progress(saga_id, recorded)

    async def load_all(
        self, saga_ids: Iterable[str], *, strict: bool = False
    ) -> list[Run[Any]]:
        """Read unfinished sagas; those that can't be driven are parked and listed.

        Args:
            saga_ids: Their ids.
            strict: Whether one with other steps is refused, and not parked.

        Raises:
            GraphMismatch: One was started with other steps under the same version.
        """
        found: list[tuple[Tenure | None, Progress, Sequence[RecordedEvent]]] = []
        for saga_id in saga_ids:
            tenure = self._shards.tenure_of(saga_id)
            recorded = await self._journal.read(saga_id)
            try:
                progress = self._journal.progress(saga_id, recorded)
            except SagaParked as error:
                self._park(tenure, Progress(saga_id), error, recorded)
            else:
                found.append((tenure, progress, recorded))
        if strict:
            self._library.check_graphs(progress for _, progress, _ in found)
        runs: list[Run[Any]] = []
        for tenure, progress, recorded in found:
            try:
                saga = self._declaration(progress)
                runs.append(await self._journal.restore(saga, progress.id, recorded))
            except SagaParked as error:
                self._park(tenure, progress, error, recorded)
            except GraphMismatch as error:
                self._park(tenure, progress, parked(progress, str(error)), recorded)
        return runs

    def _park(
        self,
        tenure: Tenure | None,
        progress: Progress,
        error: SagaParked,
        recorded: Sequence[RecordedEvent],
    ) -> None:
        """List a saga as parked, if it was this coordinator's all the while.

        If its shard was handed over during the read, whoever has it now judges, and
        the saga must not be listed here: it would be passed over when the shard comes
        back.
        """
        if tenure is not None and self._shards.tenure_of(progress.id) is tenure:
            self._roster.park(progress, error, recorded[-1].version)

    def _declaration(self, progress: Progress) -> Saga[Any]:
        saga = self._library.find(progress)
        if saga is None:
            raise parked(
                progress, "needs_code: give its declaration to the coordinator"
            )
        self._library.check_graphs([progress])
        return saga
