"""The lease under which a saga is driven: that of its shard, or a delegated one.

A saga's shard follows from its id alone.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from eventbraid.lease._events import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.saga.definition._declaration import Declaration

SHARDS = 16
"""The number of shards. A different number would move sagas to different shards."""

# Applications can't use names with $, so their own leases can't have these names.
_LEASE = re.compile(r"\$saga-shard-(\d\d)(?:-([0-9a-f]{16}))?")


def shard_of(saga_id: str) -> int:
    """Return the shard of a saga."""
    return zlib.crc32(saga_id.encode(errors="replace")) % SHARDS


def lease_of(shard: int, needed: Declaration | None = None) -> str:
    """Return the name of a shard's lease.

    Args:
        shard: The shard.
        needed: The declaration, for the lease of just its sagas in that shard.
    """
    name = f"$saga-shard-{shard:02}"
    return name if needed is None else f"{name}-{needed.digest}"


def shard_in(stream: str) -> int | None:
    """Return the shard whose lease is recorded in a stream; None if there is none."""
    found = _LEASE.fullmatch(stream.removeprefix(PREFIX))
    if found is None or int(found[1]) >= SHARDS:
        return None
    return int(found[1])


class ShardLease:
    """A lease that this coordinator holds, from its acquisition to its loss.

    Attributes:
        shard: The shard.
        needed: The declaration of its sagas; None for the lease of the shard itself.
        token: The fencing token.
        lease: The name of the lease.
        fence: What each commit of its sagas expects. The store refuses such a commit
            after another coordinator has acquired the lease.
        is_leaving: Whether its sagas begin no further action here.
        was_released: Whether the previous holder released the lease. If so, that holder
            didn't end in the middle of an action of these sagas.
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
        """Begin without sagas that are worked on."""
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
        """Let its sagas begin no further action here: it is given back, or lost."""
        self.is_leaving = True

    @property
    def working(self) -> int:
        """The number of its sagas that are in the middle of an action."""
        return self._working

    def begin_work(self) -> None:
        """Count a saga that is put to work."""
        self._working += 1

    def end_work(self) -> None:
        """Count a saga whose task has ended."""
        self._working -= 1

    def last_report(self, saga_id: str) -> object:
        """Return the content of the last report of a blocked saga, or None."""
        return self._reports.get(saga_id)

    def note_report(self, saga_id: str, what: object) -> None:
        """Note the content of the last report of a blocked saga in the log."""
        self._reports[saga_id] = what
