"""Decoded events of long streams, kept so that each is decoded once in a process.

Events never change, and the versions of a stream are dense: what was read once is a
prefix of all that is read later. Only events that nobody can change are shared. States
are not kept: how a command folds may depend on its fields.

What is kept belongs to the classes that were registered when it was decoded. When a
class is registered anew, in a notebook for instance, all of it is dropped.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from eventbraid.event._frozen import is_frozen_class
from eventbraid.event._recorded import kinds_of
from eventbraid.event._registry import default_registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eventbraid.event import Recorded

SHORTEST_KEPT = 16
"""Shorter streams are decoded in less time than it takes to look after them."""

EVENT_BYTES = 640
"""What a small event takes: its record, its decoded object, and its place in lists."""

BYTES_A_BYTE = 4
"""How many bytes a byte of JSON may take, decoded: a text of wide characters."""


class Remembered:
    """The events of a stream, from its first one on; they only ever grow in number.

    Attributes:
        events: The events. Other threads may append to the list at any time.
        kinds: Their classes.
        size: The bytes that they keep alive, by estimate.
    """

    __slots__ = ("events", "kinds", "size")

    def __init__(self) -> None:
        """Begin with no events."""
        self.events: list[Recorded[Any]] = []
        self.kinds: frozenset[type] = frozenset()
        self.size = 0


class EventMemory:
    """The streams that were read last, up to a number of events and bytes in all."""

    __slots__ = (
        "_count",
        "_generation",
        "_lock",
        "_most_bytes",
        "_most_events",
        "_size",
        "_streams",
    )

    def __init__(self, most_events: int, most_bytes: int) -> None:
        """Remember at most so many events and bytes; nothing if one of them is 0."""
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._count = 0
        self._size = 0
        self._generation = default_registry.generation
        self._streams: OrderedDict[str, Remembered] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """The bytes that are kept alive, by estimate."""
        return self._size

    def recall(self, streams: Iterable[str]) -> dict[str, Remembered]:
        """Return what is remembered of these streams."""
        if self._generation != default_registry.generation:
            self._forget()
        known = self._streams
        found = {stream: known[stream] for stream in streams if stream in known}
        if found:
            with self._lock:
                for stream in found:
                    if stream in self._streams:
                        self._streams.move_to_end(stream)
        return found

    def has_all(self, versions: Mapping[str, int]) -> bool:
        """Return whether all events of streams of these versions are remembered."""
        known = self.recall(versions)
        return all(
            not version or (stream in known and len(known[stream].events) >= version)
            for stream, version in versions.items()
        )

    def learn(
        self,
        after: Mapping[str, int],
        versions: Mapping[str, int],
        new: Sequence[Recorded[Any]],
        generation: int,
    ) -> None:
        """Remember what was read.

        Args:
            after: For streams that were not read from their first event on, the version
                after which they were.
            versions: The streams' versions as of the read.
            new: The events that were read, in order.
            generation: The registry's generation, from before they were decoded.
        """
        if not (new and self._most_events and self._most_bytes):
            return
        grown: dict[str, list[Recorded[Any]]] = {}
        for stream, version in versions.items():
            if version >= SHORTEST_KEPT:
                grown[stream] = []
        if not grown:
            return
        for one in new:
            if one.stream in grown:
                grown[one.stream].append(one)
        for stream, events in grown.items():
            kinds = kinds_of(events)
            if events and all(map(is_frozen_class, kinds)):
                self._keep(stream, after.get(stream, 0), events, kinds, generation)

    def _keep(
        self,
        stream: str,
        after: int,
        events: list[Recorded[Any]],
        kinds: set[type],
        generation: int,
    ) -> None:
        with self._lock:
            if generation != self._generation:
                return
            known = self._streams.get(stream)
            have = 0 if known is None else len(known.events)
            if have < after:
                # Events that they follow were dropped meanwhile.
                return
            known = self._streams.setdefault(stream, Remembered())
            self._streams.move_to_end(stream)
            # Another thread may have learned of a part of them already.
            self._extend(known, events[have - after :], kinds)
            if not known.events:
                self._drop(stream)

    def _extend(
        self, known: Remembered, further: list[Recorded[Any]], kinds: set[type]
    ) -> None:
        """Add the events that there is room for, perhaps in place of other streams."""
        room = self._most_events - len(known.events)
        room_bytes = self._most_bytes - known.size
        size = 0
        for number, one in enumerate(further):
            length = EVENT_BYTES + BYTES_A_BYTE * sys.getsizeof(one)
            if number >= room or size + length > room_bytes:
                further = further[:number]
                break
            size += length
        known.kinds |= kinds
        known.events += further
        known.size += size
        self._count += len(further)
        self._size += size
        while self._count > self._most_events or self._size > self._most_bytes:
            self._drop(next(iter(self._streams)))

    def _drop(self, stream: str) -> None:
        forgotten = self._streams.pop(stream)
        self._count -= len(forgotten.events)
        self._size -= forgotten.size

    def _forget(self) -> None:
        with self._lock:
            self._generation = default_registry.generation
            self._streams = OrderedDict()
            self._count = 0
            self._size = 0
