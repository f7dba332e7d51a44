"""An event type: a class under a stable name, in one version."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from eventbraid.domain._invalid_value import shown, shown_argument
from eventbraid.errors import InvalidEventType

if TYPE_CHECKING:
    from eventbraid.event._body_codec import BodyCodec
    from eventbraid.event._codec import ClassCodec

MOST_BYTES = 255
HIGHEST_VERSION = 999_999_999
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROLS = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))


@dataclass(frozen=True, slots=True)
class EventType:
    """A class under its stable name.

    Attributes:
        name: The event type, as it is recorded in the log.
        version: The version of its schema.
        kind: The class.
        codec: From the class to bytes and back.
        oldest_version: The lowest schema version that the log may contain.
        body_codec: The codec of the bodies of new events, if they are encoded.
        has_own_codec: Whether the body codec was given with the class, so that the
            codec of the registry doesn't replace it.
        is_plain: Whether an event is its name and its JSON alone: the version is 1, and
            bodies aren't encoded. One test of it decides this for each new event.
    """

    name: str
    version: int
    kind: type
    codec: ClassCodec
    oldest_version: int = 1
    body_codec: BodyCodec | None = None
    has_own_codec: bool = False
    is_plain: bool = True


def check_name(name: object, version: object) -> None:
    """Refuse what can't be an event type or its version.

    Raises:
        InvalidEventType: Says why.
    """
    if not isinstance(name, str):
        raise InvalidEventType(
            "event type",
            shown_argument(name),
            'give it as text: @event("order.submitted")',
        )
    if not name.isascii() and _SURROGATE.search(name):
        raise InvalidEventType(
            "event type", name, "it holds a lone surrogate, which has no UTF-8"
        )
    if not 1 <= len(name.encode()) <= MOST_BYTES:
        raise InvalidEventType(
            "event type",
            name,
            f"it has {len(name.encode())} bytes of UTF-8, expected 1 to {MOST_BYTES}; "
            "use a shorter name",
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
            f"its version is {version:,}; the versions of a schema count from 1 to "
            f"{HIGHEST_VERSION:,}",
        )


def check_former_names(
    name: str, version: int, formerly: object, oldest_version: object
) -> tuple[str, ...]:
    """Return the former names of an event type as a tuple, after validating them.

    Args:
        name: The event type.
        version: Its version.
        formerly: The former names, or one of them.
        oldest_version: The lowest version that the log may contain.

    Raises:
        InvalidEventType: A former name or the oldest version is invalid.
    """
    if isinstance(formerly, str):
        formerly = (formerly,)
    if not isinstance(formerly, Iterable):
        raise InvalidEventType(
            "former name",
            shown_argument(formerly),
            'give it as text: formerly="order.placed"',
        )
    names = tuple(cast("Iterable[object]", formerly))
    for former in names:
        check_name(former, version)
    if name in names:
        raise InvalidEventType(
            "former name", name, "it is the event type's own name; remove it"
        )
    check_name(name, oldest_version)
    if cast("int", oldest_version) > version:
        raise InvalidEventType(
            "event type",
            name,
            f"its oldest_version is {oldest_version}, which is after its version "
            f"{version}",
        )
    return cast("tuple[str, ...]", names)
