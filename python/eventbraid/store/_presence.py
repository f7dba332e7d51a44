"""Which openings of a store are alive, for roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from eventbraid.store._completion import current_port, unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.store._handle import Handle


def appear(store: object) -> str:
    """Show all who share a store that this opening of it is alive, from now on.

    Args:
        store: The store, or something around it.

    Returns:
        The id of the opening: the same each time, and no other opening ever had it.
    """
    return _handle(store).native.appear()


def sightings(store: object) -> Mapping[str, float]:
    """Give the openings that are alive: the seconds of silence of each, by its id.

    Those that never appeared don't count.
    """
    return dict(_handle(store).native.sightings())


async def sightings_async(store: object) -> Mapping[str, float]:
    """Like `sightings`, off the event loop."""
    port = current_port()
    token = _handle(store).native.sightings_async(port.native)
    seen = cast("list[tuple[str, float]]", unwrapped(await port.result(token), list))
    return dict(seen)


def _handle(store: object) -> Handle:
    return cast("Handle", getattr(store, "_handle"))  # noqa: B009 - of any face, or what wraps one
