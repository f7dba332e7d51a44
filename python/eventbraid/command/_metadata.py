"""Metadata that tells how events hang together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventbraid.event import Recorded
    from eventbraid.store import RecordedEvent


def caused_by(recorded: Recorded[Any] | RecordedEvent, /) -> dict[str, str]:
    """Return the metadata of events that another event causes.

    ``correlation_id`` is the same for all events of one request, from the first one
    on; ``causation_id`` is the event that came just before.

    Args:
        recorded: The event that was the cause.

    Returns:
        Metadata for `Executor.execute`; add your own keys to it.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("order-1", "order.submitted", b"{}")])
        ...     [recorded] = store.read_stream("order-1")
        >>> eb.caused_by(recorded)["causation_id"] == str(recorded.event_id)
        True
    """
    cause = str(recorded.event_id)
    return {
        "correlation_id": recorded.correlation_id or cause,
        "causation_id": cause,
    }
