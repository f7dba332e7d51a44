"""The lease under which a saga is driven: that of its shard, or a delegated one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.lease._events import PREFIX
from eventbraid.saga.running._shard_mapping import lease_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.saga.definition._declaration import Declaration


class ShardLease:
    """A lease that this coordinator holds, or has held.

    Attributes:
        shard: The shard.
        needed: The declaration of the sagas, for a delegated lease; None for the lease
            of the shard.
        token: The fencing token.
        lease: The name of the lease.
        fence: The expectation of the fencing token in each commit of its sagas. The
            store refuses such a commit after another coordinator has acquired the
            lease.
        is_leaving: Whether the lease is lost or given back, so that its sagas begin no
            further action here.
        was_released: Whether the previous holder released the lease. If so, that holder
            didn't end in the middle of an action of the lease's sagas.
    """

    __slots__ = (
        "_reports",
        "_working",
        "fence",
        "is_leaving",
        "lease",
        "needed",
        "shard",
        "token",
        "was_released",
    )

    def __init__(
        self,
        shard: int,
        token: int,
        needed: Declaration | None = None,
        *,
        was_released: bool = False,
    ) -> None:
        """Begin without sagas at work."""
        self.shard = shard
        self.was_released = was_released
        self.needed = needed
        self.token = token
        self.lease = lease_of(shard, needed)
        self.fence: Mapping[str, int] = {PREFIX + self.lease: token}
        self.is_leaving = False
        self._reports: dict[str, object] = {}
        self._working = 0

    def leave(self) -> None:
        """Let the sagas of the lease begin no further action here."""
        self.is_leaving = True

    @property
    def working(self) -> int:
        """The number of the lease's sagas that are in the middle of an action."""
        return self._working

    def begin_work(self) -> None:
        """Count a saga that is put to work."""
        self._working += 1

    def end_work(self) -> None:
        """Count a saga whose task has ended."""
        self._working -= 1

    def last_report(self, saga_id: str) -> object:
        """Return the content of the last report that a saga is blocked, or None."""
        return self._reports.get(saga_id)

    def note_report(self, saga_id: str, what: object) -> None:
        """Note the content of the last report that a saga is blocked."""
        self._reports[saga_id] = what
