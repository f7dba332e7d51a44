"""The shard of a saga, which its id alone determines, and the names of its leases."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from eventbraid.lease._events import PREFIX

if TYPE_CHECKING:
    from eventbraid.saga.definition._declaration import Declaration

SHARDS = 16
"""The number of shards. It must not change, because it determines a saga's shard."""

# Applications can't use names that begin with $, so their own leases can't have these
# names.
_LEASE = re.compile(r"\$saga-shard-(\d\d)(?:-([0-9a-f]{16}))?")


def shard_of(saga_id: str) -> int:
    """Return the shard of a saga."""
    return zlib.crc32(saga_id.encode(errors="replace")) % SHARDS


def lease_of(shard: int, needed: Declaration | None = None) -> str:
    """Return the name of a shard's lease.

    Args:
        shard: The shard.
        needed: The declaration, for the delegated lease of its sagas in that shard;
            None for the lease of the shard.
    """
    name = f"$saga-shard-{shard:02}"
    return name if needed is None else f"{name}-{needed.digest}"


def shard_in(stream: str) -> int | None:
    """Return the shard to whose lease a stream belongs; None if it belongs to none."""
    found = _LEASE.fullmatch(stream.removeprefix(PREFIX))
    if found is None or int(found[1]) >= SHARDS:
        return None
    return int(found[1])
