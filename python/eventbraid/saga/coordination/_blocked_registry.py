"""The blocked sagas in the shards of one coordinator."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eventbraid._logging import SAGA
from eventbraid.saga.coordination._saga_summary import blocked_summary_of, is_overdue
from eventbraid.saga.running._pace import Pace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from eventbraid.errors import SagaBlocked
    from eventbraid.saga.coordination._saga_summary import SagaSummary
    from eventbraid.saga.coordination._wakeup import Wakeup
    from eventbraid.saga.machine._progress import Progress
    from eventbraid.saga.running._records import StreamHead
    from eventbraid.saga.running._shard_lease import ShardLease


@dataclass(frozen=True, slots=True)
class BlockedSaga:
    """A saga that this program can't drive.

    Attributes:
        progress: The saga's progress, as far as its stream can be folded.
        error: The reason, as an error.
        head: The head of the saga's stream when the saga was blocked.
        shard_lease: The lease under which it was blocked.
        overdue: Whether its deadline has passed, as of the last check.
    """

    progress: Progress
    error: SagaBlocked
    head: StreamHead
    shard_lease: ShardLease
    overdue: bool = False

    @property
    def id(self) -> str:
        """The saga's id."""
        return self.progress.id

    @property
    def version(self) -> int:
        """The version of its stream when it was blocked."""
        return self.head.version

    def is_blocked_at(self, version: int) -> bool:
        """Return whether a defect in a call still blocks the saga at a stream version.

        Only calls of other systems count: the same program doesn't make such a call
        again. A function that calls no other system is called again when a caller
        requests the saga.
        """
        defect = self.progress.blocked
        if defect is None or self.version != version:
            return False
        return defect.where in {"action", "ask", "compensation"}


class BlockedRegistry:
    """The blocked sagas of a coordinator, and those that it must still report.

    Args:
        wakeup: Is notified when there is something to report.
    """

    __slots__ = ("_deadlines", "_sagas", "_unreported", "_wakeup")

    def __init__(self, wakeup: Wakeup) -> None:
        """Begin without blocked sagas."""
        self._wakeup = wakeup
        self._sagas: dict[str, BlockedSaga] = {}
        self._unreported: dict[str, BlockedSaga] = {}
        # A heap. An entry is removed only when its deadline has passed, so some entries
        # belong to sagas that aren't blocked any more.
        self._deadlines: list[tuple[datetime, str]] = []

    @property
    def sagas(self) -> Mapping[str, BlockedSaga]:
        """The blocked sagas, by their ids."""
        return self._sagas

    def add(self, blocked: BlockedSaga) -> None:
        """Add a saga or replace its entry, and mark it to be reported."""
        SAGA.error("%s", blocked.error, exc_info=blocked.error.__cause__)
        self._sagas[blocked.id] = self._unreported[blocked.id] = blocked
        if blocked.progress.deadline is not None:
            heapq.heappush(self._deadlines, (blocked.progress.deadline, blocked.id))
        self._wakeup.notify()

    def remove(self, saga_id: str) -> None:
        """Remove a saga, if it is blocked."""
        self._sagas.pop(saga_id, None)

    def remove_all(self, saga_ids: Collection[str]) -> None:
        """Remove the blocked sagas among the given ids."""
        for saga_id in self._sagas.keys() & saga_ids:
            del self._sagas[saga_id]

    def remove_of(self, shard_lease: ShardLease) -> None:
        """Remove the sagas that were blocked under a lease."""
        for saga_id, blocked in [*self._sagas.items()]:
            if blocked.shard_lease is shard_lease:
                del self._sagas[saga_id]

    # --- reports ---------------------------------------------------------------------

    @property
    def has_unreported(self) -> bool:
        """Whether there are sagas that must be reported."""
        return bool(self._unreported)

    def take_unreported(self) -> list[BlockedSaga]:
        """Return the blocked sagas that must be reported, and mark them as reported."""
        unreported, self._unreported = self._unreported, {}
        return [one for one in unreported.values() if self._sagas.get(one.id) is one]

    def put_back(self, unreported: Iterable[BlockedSaga]) -> None:
        """Mark sagas to be reported again after a report of unknown outcome.

        If the first report was committed, a second notice does no harm. If a saga was
        blocked again meanwhile, it has a newer entry, which is kept.
        """
        self._unreported = {one.id: one for one in unreported} | self._unreported

    # --- deadlines -------------------------------------------------------------------

    def find_overdue(self, now: datetime) -> list[BlockedSaga]:
        """Return the blocked sagas whose deadline has passed since the last call.

        These sagas are marked to be reported once more, as overdue.
        """
        found: list[BlockedSaga] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, saga_id = heapq.heappop(self._deadlines)
            blocked = self._sagas.get(saga_id)
            if (
                blocked is None
                or blocked.overdue
                or not is_overdue(blocked.progress, now)
            ):
                continue
            overdue = replace(blocked, overdue=True)
            self._sagas[saga_id] = self._unreported[saga_id] = overdue
            found.append(overdue)
        return found

    def next_deadline(self) -> datetime | None:
        """Return the time of the next deadline; None if there is none."""
        return self._deadlines[0][0] if self._deadlines else None

    async def summaries(self) -> list[SagaSummary]:
        """Return the summaries of all blocked sagas."""
        found: list[SagaSummary] = []
        pace = Pace()
        for one in [*self._sagas.values()]:
            found.append(blocked_summary_of(one.progress, one.error.reason))
            await pace.yield_if_due()
        return found
