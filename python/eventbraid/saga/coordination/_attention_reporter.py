"""Reports blocked sagas in the log, for waiters at other coordinators.

That a saga is blocked is a fact about the live programs and not about the saga, so it
isn't recorded in the saga's stream. The attention stream has it, and stuck sagas too.
The notice expects the fencing token of the lease under which the saga would be driven,
and the saga's version. So it holds from its position in the log until that lease is
acquired again or released, or until the saga's stream grows; the log alone decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.errors import VersionConflict
from eventbraid.saga.coordination._attention_notices import Notices
from eventbraid.saga.definition._declaration import declaration_of
from eventbraid.saga.running._blocked_error import NEEDS_CODE
from eventbraid.saga.running._records import notice_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventbraid.saga.coordination._saga_registry import BlockedSaga
    from eventbraid.saga.coordination._shards import Shards
    from eventbraid.saga.running._run import Run
    from eventbraid.saga.running._shard_lease import ShardLease
    from eventbraid.store import AsyncStore, NewEvent, RecordedEvent

# Notices of one commit.
_MAXIMUM_REPORTED = 256
# The text of any error may come in, and a notice mustn't fail for it.
_MOST_CHARACTERS = 4_000


class AttentionReporter:
    """Reports the sagas that are blocked here, and finds the reports of others.

    Args:
        store: The store.
        shards: Knows which shards are this coordinator's.
    """

    __slots__ = ("_notices", "_shards", "_store")

    def __init__(self, store: AsyncStore, shards: Shards) -> None:
        """Tell nothing yet."""
        self._store = store
        self._shards = shards
        self._notices = Notices(store)

    async def tell(self, blocked: Iterable[BlockedSaga]) -> list[str]:
        """Tell of sagas that are blocked, once for each of their versions.

        Returns:
            Those that have moved on since they were blocked: they weren't told of, and
            are to be looked at again.
        """
        unreported: list[tuple[BlockedSaga, ShardLease]] = []
        for one in blocked:
            known = one.shard_lease.last_report(one.id)
            if self._shards.holds(one.shard_lease) and known != (
                one.version,
                one.overdue,
            ):
                unreported.append((one, one.shard_lease))
        moved: list[str] = []
        for start in range(0, len(unreported), _MAXIMUM_REPORTED):
            moved += await self._tell(unreported[start : start + _MAXIMUM_REPORTED])
        return moved

    def note(self, recorded: RecordedEvent) -> str | None:
        """Take in the next record of the attention stream.

        Returns:
            The saga that it is about; None if it is no notice.
        """
        return self._notices.note(recorded)

    async def reasons(self, runs: Iterable[Run[Any]]) -> Mapping[str, str]:
        """Give why sagas are blocked at the coordinators that have their shards.

        Returns:
            The reasons, by the ids of those that are blocked, as far as the log says,
            and haven't moved on from what is known of them here.
        """
        wanted: dict[str, int] = {}
        found = {run.id: run for run in runs}
        for run in found.values():
            last = await self._last(run.id)
            if last is not None and last.version == run.version:
                wanted[run.id] = last.position
        reasons: dict[str, str] = {}
        for saga_id, place in (await self._notices.find(wanted)).items():
            if await self._has_moved(found[saga_id], place.position):
                # The coordinator that has the saga now may well drive it, or will
                # tell if not.
                continue
            reason = await self._notices.reason(place)
            # A coordinator where it is waited for has the code.
            if reason is not None and NEEDS_CODE not in reason:
                reasons[saga_id] = reason
        return reasons

    async def _has_moved(self, run: Run[Any], position: int) -> bool:
        """Return whether a saga's lease was taken or released after a position."""
        for stream in self._shards.leases_of(run.id, declaration_of(run.saga)):
            last = await self._last(stream)
            if last is not None and last.position > position:
                return True
        return False

    async def _tell(
        self, unreported: list[tuple[BlockedSaga, ShardLease]]
    ) -> list[str]:
        moved: list[str] = []
        while unreported:
            expect: dict[str, int] = {}
            for one, shard_lease in unreported:
                expect |= {one.id: one.version, **shard_lease.fence}
            notices = [_notice_of(one) for one, _ in unreported]
            try:
                await self._store.append(notices, expect=expect)
            except VersionConflict as conflict:
                failed = {failure.stream for failure in conflict.failures}
                moved += [one.id for one, _ in unreported if one.id in failed]
                # Of a shard that is lost its new owner tells.
                unreported = [
                    (one, shard_lease)
                    for one, shard_lease in unreported
                    if failed.isdisjoint({one.id, *shard_lease.fence})
                ]
            else:
                for one, shard_lease in unreported:
                    shard_lease.note_report(one.id, (one.version, one.overdue))
                return moved
        return moved

    async def _last(self, stream: str) -> RecordedEvent | None:
        newest = self._store.read_stream(stream, backward=True, limit=1)
        found = [recorded async for recorded in newest]
        return found[0] if found else None


def _notice_of(blocked: BlockedSaga) -> NewEvent:
    progress, error = blocked.progress, blocked.error
    reason = error.reason[:_MOST_CHARACTERS].encode(errors="replace").decode()
    if blocked.overdue and progress.deadline is not None:
        reason = f"overdue since {progress.deadline:%Y-%m-%d %H:%M:%S %Z}: {reason}"
    return notice_of(progress, blocked.head, reason)
