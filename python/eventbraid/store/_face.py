"""The part of a store that is the same with and without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbraid._event_types import EventTypes
    from eventbraid.store._coordination import NativeCoordination
    from eventbraid.store._handle import Handle


class Face:
    """An open store, as the methods of both faces need it."""

    __slots__ = ("_coordination", "_handle")

    def __init__(self, handle: Handle, coordination: NativeCoordination) -> None:
        """Wrap an open native store; use `open` or `open_async` instead.

        Args:
            handle: The owner of the native store.
            coordination: The sessions of the store; the same object for both faces.
        """
        self._handle = handle
        self._coordination = coordination

    @property
    def coordination(self) -> NativeCoordination:
        """The sessions that share the store, for leases and saga coordinators."""
        return self._coordination

    @property
    def registry(self) -> EventTypes | None:
        """The `EventRegistry` with which the store was opened."""
        return self._handle.event_types

    def __repr__(self) -> str:
        """Name the location."""
        return self._handle.describe(type(self).__name__)
