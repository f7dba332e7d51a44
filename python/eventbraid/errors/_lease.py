"""The errors of leases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.errors._base import EventbraidError

if TYPE_CHECKING:
    from datetime import datetime


class LeaseError(EventbraidError):
    """The base of the errors of leases.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store, eb.Lease(store, "importer"):
        ...     try:
        ...         eb.Lease(store, "importer").__enter__()
        ...     except eb.LeaseError as error:
        ...         print(type(error).__name__)
        LeaseHeld
    """


class LeaseHeld(LeaseError):
    """Another holder has the lease.

    Attributes:
        lease: The lease's name.
        holder: The holder: its program, process id and machine.
        since: The time of the acquisition; None if it isn't known.
        heartbeat_age: The seconds since the holder's last heartbeat.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store, eb.Lease(store, "importer"):
        ...     try:
        ...         with eb.Lease(store, "importer"):
        ...             pass
        ...     except eb.LeaseHeld as error:
        ...         print(error.lease)
        importer
    """

    def __init__(
        self, lease: str, holder: str, since: datetime | None, heartbeat_age: float
    ) -> None:
        """Build the error from the lease and its holder."""
        self.lease = lease
        self.holder = holder
        self.since = since
        self.heartbeat_age = heartbeat_age
        when = "" if since is None else f" since {since.isoformat(timespec='seconds')}"
        super().__init__(
            f"lease {lease!r} is held by {holder}{when}; its last heartbeat was "
            f"{heartbeat_age:.1f} s ago: wait for the lease with wait=, or end that "
            "process"
        )


class LeaseLost(LeaseError):
    """Another holder has acquired the lease. Nothing was written.

    Attributes:
        lease: The lease's name.
        token: The fencing token of the append that was refused.
        actual: The version of the lease's stream.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.LeaseLost("importer", 3, 4).token
        3
    """

    def __init__(self, lease: str, token: int, actual: int) -> None:
        """Build the error from the lease, the token and the actual version."""
        self.lease = lease
        self.token = token
        self.actual = actual
        super().__init__(
            f"lease {lease!r} was lost to another holder: its fencing token was "
            f"{token} and is {actual}; nothing was written: stop the work that the "
            "lease protects"
        )
