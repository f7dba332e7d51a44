"""Reports blocked sagas in the log, for callers that wait at other coordinators.

Whether a saga is blocked depends on the live programs and not on the saga alone. So the
block isn't recorded in the saga's stream, but as a notice on the attention stream,
which also has the notices of stuck sagas. The append of a notice expects two versions:
that of the saga's stream, and the fencing token of the lease under which the saga would
be driven. So a notice is valid from its position in the log until the saga's stream
grows, or until that lease is acquired again or released. Each coordinator can read from
the log alone whether a notice is still valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid.errors import VersionConflict
from eventbraid.saga.coordination._attention_notices import Notices
from eventbraid.saga.definition._declaration import declaration_of
from eventbraid.saga.running._blocked_error import NEEDS_CODE
from eventbraid.saga.running._records import notice_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eventbraid.saga.coordination._blocked_registry import BlockedSaga
    from eventbraid.saga.coordination._shards import Shards
    from eventbraid.saga.running._run import Run
    from eventbraid.store import AsyncStore, NewEvent, RecordedEvent

_NOTICES_PER_COMMIT = 256
# The maximum length of a reason. The reason may contain the long text of an error, but
# every store must accept the notice.
_MAXIMUM_CHARACTERS = 4_000


class AttentionReporter:
    """Writes the notices of this coordinator, and reads those of others.

    Args:
        store: The store.
        shards: The leases of this coordinator.
    """

    __slots__ = ("_notices", "_shards", "_store")

    def __init__(self, store: AsyncStore, shards: Shards) -> None:
        """Begin without reports."""
        self._store = store
        self._shards = shards
        self._notices = Notices(store)

    # --- sagas that are blocked here -------------------------------------------------

    async def report(self, blocked: Iterable[BlockedSaga]) -> list[str]:
        """Report blocked sagas, once for each version of their streams.

        Returns:
            The ids of the sagas whose stream has grown since they were blocked. These
            sagas were not reported, and must be read again.
        """
        unreported = [one for one in blocked if self._is_unreported(one)]
        grown: list[str] = []
        for start in range(0, len(unreported), _NOTICES_PER_COMMIT):
            grown += await self._append(unreported[start : start + _NOTICES_PER_COMMIT])
        return grown

    def _is_unreported(self, one: BlockedSaga) -> bool:
        is_held = self._shards.holds(one.shard_lease)
        return is_held and one.shard_lease.last_report(one.id) != _content_of(one)

    async def _append(self, unreported: Sequence[BlockedSaga]) -> list[str]:
        """Append notices in one commit; leave out those that are no longer true."""
        grown: list[str] = []
        while unreported:
            expect: dict[str, int] = {}
            for one in unreported:
                expect |= {one.id: one.version, **one.shard_lease.fence}
            try:
                await self._store.append(map(_notice_of, unreported), expect=expect)
            except VersionConflict as conflict:
                failed = {failure.stream for failure in conflict.failures}
                grown += [one.id for one in unreported if one.id in failed]
                # A saga whose shard is lost is reported by the shard's new holder.
                unreported = [
                    one
                    for one in unreported
                    if failed.isdisjoint({one.id, *one.shard_lease.fence})
                ]
            else:
                for one in unreported:
                    one.shard_lease.note_report(one.id, _content_of(one))
                return grown
        return grown

    # --- sagas that are blocked elsewhere --------------------------------------------

    def note(self, recorded: RecordedEvent) -> str | None:
        """Adopt the next record of the attention stream.

        Returns:
            The id of the saga in the notice; None if the record isn't a notice.
        """
        return self._notices.note(recorded)

    async def reasons(self, runs: Iterable[Run[Any]]) -> Mapping[str, str]:
        """Return why sagas are blocked at the coordinators that have their shards.

        Returns:
            The reasons, by saga id. A saga is left out if the log doesn't show that it
            is blocked, or if its stream has grown since this process read it.
        """
        wanted: dict[str, int] = {}
        found = {run.id: run for run in runs}
        for run in found.values():
            last = await self._last(run.id)
            if last is not None and last.version == run.version:
                wanted[run.id] = last.position
        reasons: dict[str, str] = {}
        for saga_id, place in (await self._notices.find(wanted)).items():
            if await self._has_other_holder(found[saga_id], place.position):
                # The new holder may be able to drive the saga. If it isn't, it reports
                # the saga itself.
                continue
            reason = await self._notices.reason(place)
            # A caller waits for the saga here, so this coordinator has the saga's code.
            # If the holder of the shard only lacks the code, the saga isn't blocked,
            # because it will be delegated to this coordinator.
            if reason is not None and NEEDS_CODE not in reason:
                reasons[saga_id] = reason
        return reasons

    async def _has_other_holder(self, run: Run[Any], position: int) -> bool:
        """Return whether a saga's lease was acquired or released after a position."""
        streams = self._shards.streams_of_leases(run.id, declaration_of(run.saga))
        for stream in streams:
            last = await self._last(stream)
            if last is not None and last.position > position:
                return True
        return False

    async def _last(self, stream: str) -> RecordedEvent | None:
        newest = self._store.read_stream(stream, backward=True, limit=1)
        found = [recorded async for recorded in newest]
        return found[0] if found else None


def _content_of(blocked: BlockedSaga) -> object:
    """Return the facts that a report contains; equal facts need no second report."""
    return blocked.version, blocked.overdue


def _notice_of(blocked: BlockedSaga) -> NewEvent:
    progress, error = blocked.progress, blocked.error
    reason = error.reason[:_MAXIMUM_CHARACTERS].encode(errors="replace").decode()
    if blocked.overdue and progress.deadline is not None:
        reason = f"overdue since {progress.deadline:%Y-%m-%d %H:%M:%S %Z}: {reason}"
    return notice_of(progress, blocked.head, reason)
