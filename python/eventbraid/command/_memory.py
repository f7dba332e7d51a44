"""A cache of the decoded events of long streams, so that each is decoded only once.

Events never change, and the versions of a stream have no gaps. So the events that were
read once are a prefix of the events of each later read. Only immutable events are
shared. States are not cached, because the fold of a command may depend on its fields.

The cached events are instances of the classes that were registered when the events were
decoded. When a class is registered again, for example in a notebook, the cache is
cleared.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from eventbraid._recorded import kinds_of
from eventbraid.event._frozen import is_frozen_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eventbraid.event import EventRegistry, Recorded

MINIMUM_STREAM_LENGTH = 16
"""The minimum length of a cached stream; decoding a shorter one takes less time."""

EVENT_BYTES = 640
"""The bytes of a small event: its record, its decoded object, and list entries."""

BYTES_A_BYTE = 4
"""The maximum bytes in memory for a byte of JSON, as for a text of wide characters."""


class CachedEvents:
    """The cached events of a stream: a prefix of the stream, which only grows.

    Attributes:
        events: The events. Other threads may append to the list at any time.
        kinds: Their classes.
        size: The estimated bytes that they take in memory.
    """

    __slots__ = ("events", "kinds", "size")

    def __init__(self) -> None:
        """Begin without events."""
        self.events: list[Recorded[Any]] = []
        self.kinds: frozenset[type] = frozenset()
        self.size = 0


class EventMemory:
    """The streams that were read most recently, up to a total of events and bytes."""

    __slots__ = (
        "_count",
        "_generation",
        "_lock",
        "_maximum_bytes",
        "_maximum_events",
        "_registry",
        "_size",
        "_streams",
    )

    def __init__(
        self, maximum_events: int, maximum_bytes: int, registry: EventRegistry
    ) -> None:
        """Begin without streams.

        Args:
            maximum_events: The maximum number of events; with 0, nothing is cached.
            maximum_bytes: The maximum number of bytes; with 0, nothing is cached.
            registry: The registry of the events' classes.
        """
        self._registry = registry
        self._maximum_events = maximum_events
        self._maximum_bytes = maximum_bytes
        self._count = 0
        self._size = 0
        self._generation = self._registry.generation
        self._streams: OrderedDict[str, CachedEvents] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """The estimated bytes that the cached events take in memory."""
        return self._size

    def find(self, streams: Iterable[str]) -> dict[str, CachedEvents]:
        """Return the cached events of streams."""
        if self._generation != self._registry.generation:
            self._clear()
        cached = self._streams
        found = {stream: cached[stream] for stream in streams if stream in cached}
        if found:
            with self._lock:
                for stream in found:
                    if stream in self._streams:
                        self._streams.move_to_end(stream)
        return found

    def has_all(self, versions: Mapping[str, int]) -> bool:
        """Return whether all events of streams up to these versions are cached."""
        cached = self.find(versions)
        return all(
            not version or (stream in cached and len(cached[stream].events) >= version)
            for stream, version in versions.items()
        )

    def add(
        self,
        after: Mapping[str, int],
        versions: Mapping[str, int],
        new: Sequence[Recorded[Any]],
        generation: int,
    ) -> None:
        """Cache the events that a read returned.

        Args:
            after: The version after which each stream was read. A stream that is
                missing was read from its first event.
            versions: The streams' versions at the time of the read.
            new: The events that were read, in order.
            generation: The registry's generation before the events were decoded.
        """
        if not (new and self._maximum_events and self._maximum_bytes):
            return
        grown: dict[str, list[Recorded[Any]]] = {}
        for stream, version in versions.items():
            if version >= MINIMUM_STREAM_LENGTH:
                grown[stream] = []
        if not grown:
            return
        for one in new:
            if one.stream in grown:
                grown[one.stream].append(one)
        for stream, events in grown.items():
            kinds = kinds_of(events)
            if events and all(map(is_frozen_class, kinds)):
                self._add_to_stream(
                    stream, after.get(stream, 0), events, kinds, generation
                )

    def _add_to_stream(
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
            cached = self._streams.get(stream)
            cached_count = 0 if cached is None else len(cached.events)
            if cached_count < after:
                # The preceding events were dropped meanwhile, so the prefix would have
                # a gap.
                return
            cached = self._streams.setdefault(stream, CachedEvents())
            self._streams.move_to_end(stream)
            # Another thread may have cached some of these events already.
            self._extend(cached, events[cached_count - after :], kinds)
            if not cached.events:
                self._drop(stream)

    def _extend(
        self, cached: CachedEvents, further: list[Recorded[Any]], kinds: set[type]
    ) -> None:
        """Add as many events as the limits allow; drop other streams if needed."""
        room = self._maximum_events - len(cached.events)
        room_bytes = self._maximum_bytes - cached.size
        size = 0
        for number, one in enumerate(further):
            length = EVENT_BYTES + BYTES_A_BYTE * sys.getsizeof(one)
            if number >= room or size + length > room_bytes:
                further = further[:number]
                break
            size += length
        cached.kinds |= kinds
        cached.events += further
        cached.size += size
        self._count += len(further)
        self._size += size
        while self._count > self._maximum_events or self._size > self._maximum_bytes:
            self._drop(next(iter(self._streams)))

    def _drop(self, stream: str) -> None:
        dropped = self._streams.pop(stream)
        self._count -= len(dropped.events)
        self._size -= dropped.size

    def _clear(self) -> None:
        with self._lock:
            self._generation = self._registry.generation
            self._streams = OrderedDict()
            self._count = 0
            self._size = 0
