"""What a store needs of a registry of event types, below the layer that has it.

A store sees bytes, and the event layer imports the store's types. So the store can't
import the registry: it gets an object with these methods, and the event layer sets the
default one when it is imported.
"""

from __future__ import annotations

from typing import Protocol


class EventTypes(Protocol):
    """The registry of a store's event types; `EventRegistry` is one."""

    def validate(self) -> None:
        """Raise `InvalidEventType` if some version of an event type can't be read."""
        ...


_default: list[EventTypes] = []


def set_default(registry: EventTypes) -> None:
    """Set the registry that is used where no other is given."""
    _default[:] = [registry]


def validated(registry: EventTypes | None) -> EventTypes | None:
    """Return a registry, or the default one, after validating it.

    Args:
        registry: The registry that the caller gave, if any.

    Returns:
        The registry; None if there is no default one, because no events were imported.

    Raises:
        InvalidEventType: Some version of an event type can't be read.
        TypeError: It isn't a registry.
    """
    if registry is None:
        if not _default:
            return None
        registry = _default[0]
    validate = getattr(registry, "validate", None)
    if not callable(validate):
        raise TypeError(
            f"registry must be an EventRegistry, not {type(registry).__name__}"
        )
    validate()
    return registry
