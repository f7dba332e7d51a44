"""Metadata that records which event is the cause of another event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventbraid.event import Recorded
    from eventbraid.store import RecordedEvent


def caused_by(recorded: Recorded[Any] | RecordedEvent, /) -> dict[str, str]:
    """Return the metadata of events that another event causes.

    ``correlation_id`` is the same for all events that follow from one first event.
    ``causation_id`` is the id of the event that is the direct cause.

    Args:
        recorded: The event that is the cause.

    Returns:
        The argument ``metadata`` of `Executor.execute`; you may add keys of your own.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("order-1", "order.submitted", b"{}")])
        ...     [recorded] = store.read_stream("order-1")
        >>> eb.command.caused_by(recorded)["causation_id"] == str(recorded.event_id)
        True
    """
    cause = str(recorded.event_id)
    return {
        "correlation_id": recorded.correlation_id or cause,
        "causation_id": cause,
    }
