"""The steps of opening a store that both faces need."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from eventbraid._logging import STORE
from eventbraid._native import Store
from eventbraid.errors import InvalidArgument, StoreClosed
from eventbraid.store._handle import Handle

if TYPE_CHECKING:
    from eventbraid._event_types import EventTypes
    from eventbraid.store._location import Location
    from eventbraid.store._open_options import OpenOptions


def refuse_fresh_view(place: Location, options: OpenOptions) -> None:
    """Refuse to open a new store in memory for reading only.

    Raises:
        InvalidArgument: The store would have nothing to read.
    """
    if options.read_only and place.path is None:
        reason = "a store in memory is a fresh one, with nothing to read; give a path"
        raise InvalidArgument("read_only", "True", reason)


def opened(
    place: Location, options: OpenOptions, identity: bytes | None = None
) -> Store:
    """Open a native store.

    Args:
        place: The location.
        options: The options.
        identity: The identity that the store must have, in a forked child.
    """
    return Store.open(place, options, identity)


def handle_of(
    native: Store,
    place: Location,
    options: OpenOptions,
    event_types: EventTypes | None,
) -> Handle:
    """Return the owner of a native store that was opened."""
    open_again = partial(_opened_in_child, place, options, native.identity())
    STORE.debug("opened %s", place.name)
    return Handle(
        native,
        place.name,
        open_again,
        is_in_memory=place.path is None,
        event_types=event_types,
    )


def _opened_in_child(place: Location, options: OpenOptions, identity: bytes) -> Store:
    if place.path is None:
        raise StoreClosed(
            "a store in memory belongs to the process that made it, of which this one "
            "is a fork; open another"
        )
    # It was there: should it be gone, an empty one is no stand-in.
    return opened(place, replace(options, create=False), identity)
