"""Which class stands for which event type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from eventbraid.domain._annotation import is_defined_again
from eventbraid.domain._invalid_value import shown
from eventbraid.domain._tag import set_tag
from eventbraid.errors import InvalidArgument, InvalidEventType
from eventbraid.event._codec import codec_of

if TYPE_CHECKING:
    from eventbraid.event._codec import ClassCodec

MOST_BYTES = 255
HIGHEST_VERSION = 999_999_999
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROLS = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))


@dataclass(frozen=True, slots=True)
class EventType:
    """A class under its stable name.

    Attributes:
        name: The event type, as it stands in the log.
        version: The version of its schema.
        kind: The class.
        codec: From the class to bytes and back.
    """

    name: str
    version: int
    kind: type
    codec: ClassCodec


class EventRegistry:
    """Event types by their class and by their name and version."""

    __slots__ = ("_by_kind", "_by_name", "_deferred", "generation")

    def __init__(self) -> None:
        """Begin with no event types.

        Attributes:
            generation: The number of times that a class has replaced another one
                under the same name. Caches of decoded events are valid for one
                generation only: they may hold instances of a replaced class.
        """
        self.generation = 0
        self._by_kind: dict[type, EventType] = {}
        self._by_name: dict[tuple[str, int], EventType] = {}
        self._deferred: dict[str, str] = {}

    def defer(self, prefix: str, package: str) -> None:
        """Import a package when a type that it may register is first asked for.

        Args:
            prefix: How the names of the package's event types begin.
            package: The package's full name.
        """
        self._deferred[prefix] = package

    def add(self, kind: type, name: str, version: int) -> None:
        """Register a class under a name and a version.

        Raises:
            InvalidEventType: The name is taken, or the class has one.
        """
        self._load_deferred(name, unless_within=kind.__module__)
        self._refuse_second_name(kind, name, version)
        self._refuse_second_class(kind, name, version)
        set_tag(kind, name if version == 1 else f"{name}@{version}")
        found = EventType(name, version, kind, codec_of(kind))
        replaced = self._by_name.get((name, version))
        self._by_kind[kind] = found
        self._by_name[name, version] = found
        if replaced is not None and replaced.kind is not kind:
            # An instance of the replaced class is refused from now on: the class that
            # reads the event type has other fields.
            del self._by_kind[replaced.kind]
            self.generation += 1

    def of_class(self, kind: type) -> EventType:
        """Return the type under which a class is registered.

        Raises:
            InvalidArgument: The class isn't registered.
        """
        found = self._by_kind.get(kind)
        if found is None:
            raise InvalidArgument("event", kind.__qualname__, self._remedy(kind))
        return found

    def find(self, name: str, version: int) -> EventType | None:
        """Return the type with this name and version, if there is one."""
        found = self._by_name.get((name, version))
        if found is None and self._load_deferred(name):
            found = self._by_name.get((name, version))
        return found

    def has(self, kind: type) -> bool:
        """Return whether the class is registered."""
        return kind in self._by_kind

    def _load_deferred(self, name: str, *, unless_within: str = "") -> bool:
        """Import the package that registers event types with such a name.

        The entry stays when the package is loaded: another thread may be in the middle
        of its import, and only `import_module` waits for that to end.

        Args:
            name: The name of an event type.
            unless_within: A module; nothing is done if it belongs to the package.

        Returns:
            Whether there is such a package.
        """
        for prefix, package in self._deferred.items():
            if name.startswith(prefix):
                if not f"{unless_within}.".startswith(f"{package}."):
                    import_module(package)
                return True
        return False

    def _remedy(self, kind: type) -> str:
        if any(_is_redefinition(known, kind) for known in self._by_kind):
            return (
                "its class was replaced when the class was defined again; make the "
                "event with the new class"
            )
        return (
            "its class is not registered; decorate it with "
            '@event("its.name") or @register_event("its.name")'
        )

    def _refuse_second_name(self, kind: type, name: str, version: int) -> None:
        known = self._by_kind.get(kind)
        if known is not None and (known.name, known.version) != (name, version):
            raise InvalidEventType(
                "event type",
                name,
                f"{kind.__qualname__} is already registered as {known.name!r} "
                f"version {known.version}; make another class",
            )

    def _refuse_second_class(self, kind: type, name: str, version: int) -> None:
        known = self._by_name.get((name, version))
        if known is None or _is_redefinition(known.kind, kind):
            return
        raise InvalidEventType(
            "event type",
            name,
            f"{known.kind.__module__}.{known.kind.__qualname__} is already registered "
            f"as its version {version}, so {kind.__module__}.{kind.__qualname__} "
            "can't be; choose another name, or the next version",
        )


def _is_redefinition(known: type, kind: type) -> bool:
    """Return whether a module or a notebook's cell was run again."""
    return known is kind or is_defined_again(known, kind)


def check_name(name: object, version: object) -> None:
    """Refuse what can't be an event type or its version.

    Raises:
        InvalidEventType: Says why.
    """
    if not isinstance(name, str):
        raise InvalidEventType(
            "event type", shown(name), 'give it as text: @event("order.submitted")'
        )
    if not name.isascii() and _SURROGATE.search(name):
        raise InvalidEventType(
            "event type", name, "it holds a lone surrogate, which has no UTF-8"
        )
    if not 1 <= len(name.encode()) <= MOST_BYTES:
        raise InvalidEventType(
            "event type", name, f"it must have 1 to {MOST_BYTES} bytes of UTF-8"
        )
    if not _CONTROLS.isdisjoint(name):
        raise InvalidEventType("event type", name, "it holds a control character")
    if not isinstance(version, int) or isinstance(version, bool):
        raise InvalidEventType(
            "event type", name, f"its version is {shown(version)}, expected an int"
        )
    if not 1 <= version <= HIGHEST_VERSION:
        raise InvalidEventType(
            "event type",
            name,
            f"its version is {version}; versions count from 1 to {HIGHEST_VERSION:,}",
        )


default_registry = EventRegistry()
