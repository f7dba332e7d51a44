"""Waits for the log to grow, for those who read it by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from eventbraid._native import LogWaiter
from eventbraid.store._completion import unwrapped
from eventbraid.store._event_loop import current_port

if TYPE_CHECKING:
    from eventbraid.store._handle import Handle


async def wait_beyond(store: object, position: int) -> None:
    """Wait until the durable head is beyond a position, or the store is closed.

    Args:
        store: The store, or something around it.
        position: The position.
    """
    handle = cast("Handle", getattr(store, "_handle"))  # noqa: B009 - of any face, or what wraps one
    port = current_port()
    waiter = LogWaiter(handle.native)
    token = waiter.wait_async(port.native, position)
    try:
        unwrapped(await port.result(token), bool)
    finally:
        waiter.abandon(token)
