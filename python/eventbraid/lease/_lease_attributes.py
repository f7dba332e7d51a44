"""The attributes that `Lease` and `AsyncLease` share."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.lease._holding import Holding

NO_TIME = timedelta(0)


class LeaseAttributes:
    """The attributes that `Lease` and `AsyncLease` share."""

    def __init__(self, holding: Holding) -> None:
        """Read the attributes from the holding of a lease."""
        self._holding = holding

    @property
    def name(self) -> str:
        """The lease's name."""
        return self._holding.name

    @property
    def token(self) -> int:
        """The fencing token: the version of the lease's stream at the acquisition."""
        return self._holding.token

    @property
    def fence(self) -> Mapping[str, int]:
        """The expectation of each append under the lease; pass it as ``expect``.

        Raises:
            InvalidArgument: The parent of this forked process acquired the lease.
        """
        return self._holding.fence
