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
    from eventbraid.store import RecordedEvent


class Archive:
    """The recorded sagas of a store."""

    __slots__ = ("_journal", "_library", "_roster")

    def __init__(self, journal: Journal, library: Library, roster: Roster) -> None:
        """Read by a journal, and list in a roster what can't be understood."""
        self._journal = journal
        self._library = library
        self._roster = roster

    async def load(self, saga_id: str, *, listed: bool = True) -> Run[Any]:
        """Read one saga.

        Args:
            saga_id: Its id.
            listed: Whether one that can't be driven is listed as parked.

        Raises:
            SagaNotFound: No saga was started under the id.
            SagaParked: This program can't drive it.
        """
        recorded = await self._journal.read(saga_id)
        progress = Progress(saga_id)
        try:
            progress = self._journal.progress(saga_id, recorded)
            saga = self._declaration(progress)
            return await self._journal.restore(saga, saga_id, recorded)
        except SagaParked as error:
            if listed:
                self._roster.park(progress, error, recorded[-1].version)
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
        found: list[tuple[Progress, Sequence[RecordedEvent]]] = []
        for saga_id in saga_ids:
            recorded = await self._journal.read(saga_id)
            try:
                found.append((self._journal.progress(saga_id, recorded), recorded))
            except SagaParked as error:
                self._roster.park(Progress(saga_id), error, recorded[-1].version)
        if strict:
            self._library.check_graphs(progress for progress, _ in found)
        runs: list[Run[Any]] = []
        for progress, recorded in found:
            version = recorded[-1].version
            try:
                saga = self._declaration(progress)
                runs.append(await self._journal.restore(saga, progress.id, recorded))
            except SagaParked as error:
                self._roster.park(progress, error, version)
            except GraphMismatch as error:
                self._roster.park(progress, parked(progress, str(error)), version)
        return runs

    def _declaration(self, progress: Progress) -> Saga[Any]:
        saga = self._library.find(progress)
        if saga is None:
            raise parked(
                progress, "needs_code: give its declaration to the coordinator"
            )
        self._library.check_graphs([progress])
        return saga
