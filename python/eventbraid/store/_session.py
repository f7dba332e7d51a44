"""The live sessions of a store, for leases."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from eventbraid.store._completion import unwrapped
from eventbraid.store._event_loop import current_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.store._handle import Handle


def start_heartbeat(store: object) -> str:
    """Start the heartbeat of this session of a store, unless it runs already.

    Args:
        store: The store, or an object that wraps one.

    Returns:
        The session's id: the same at each call, and unique among all sessions.
    """
    return _handle(store).native.start_heartbeat()


def heartbeat_ages(store: object) -> Mapping[str, float]:
    """Return the live sessions, with the seconds since the last heartbeat of each.

    Sessions that never started a heartbeat are left out.
    """
    return dict(_handle(store).native.heartbeat_ages())


async def heartbeat_ages_async(store: object) -> Mapping[str, float]:
    """Return what `heartbeat_ages` does, off the event loop."""
    port = current_port()
    token = _handle(store).native.heartbeat_ages_async(port.native)
    ages = cast("list[tuple[str, float]]", unwrapped(await port.result(token), list))
    return dict(ages)


def _handle(store: object) -> Handle:
    return cast("Handle", getattr(store, "_handle"))  # noqa: B009 - of any face, or what wraps one
