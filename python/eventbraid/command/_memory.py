"""Decoded events of long streams, kept so that the next command need not decode them.

Events never change, and the versions of a stream are dense: what was read once is a
prefix of all that is read later. Only events that nobody can change are shared. States
are not kept: how a command folds may depend on its fields.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from eventbraid.event._frozen import is_frozen_class
from eventbraid.event._recorded import kinds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventbraid.event import Recorded

    Events: TypeAlias = tuple[Recorded[Any], ...]

WORTH_KEEPING = 16
"""Shorter streams are decoded in less time than it takes to look after them."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """All events of a stream up to some version, and their classes."""

    events: Events
    kinds: frozenset[type]


FORGOTTEN = Remembered((), frozenset())


class EventMemory:
    """The streams that were read last, up to a number of events in all."""

    __slots__ = ("_events", "_lock", "_most", "_streams")

    def __init__(self, most: int) -> None:
        """Remember at most so many events; none at all if that is 0."""
        self._most = most
        self._events = 0
        self._streams: OrderedDict[str, Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def recall(self, streams: Iterable[str]) -> dict[str, Remembered]:
        """Give what is remembered of these streams."""
        known = self._streams
        return {stream: known[stream] for stream in streams if stream in known}

    def learn(
        self,
        recalled: Mapping[str, Remembered],
        versions: Mapping[str, int],
        new: Iterable[Recorded[Any]],
    ) -> None:
        """Remember what was read beyond what was recalled.

        Args:
            recalled: What was left out of the read.
            versions: The streams' versions as of the read.
            new: The events that were read, in order.
        """
        if not self._most:
            return
        grown: dict[str, list[Recorded[Any]]] = {}
        for stream, version in versions.items():
            if version >= WORTH_KEEPING:
                grown[stream] = []
        if not grown:
            return
        for one in new:
            if one.stream in grown:
                grown[one.stream].append(one)
        for stream, events in grown.items():
            whole = _extended(recalled.get(stream, FORGOTTEN), events)
            if whole is not None and len(whole.events) >= versions[stream]:
                self._keep(stream, whole)

    def _keep(self, stream: str, whole: Remembered) -> None:
        with self._lock:
            before = self._streams.get(stream, FORGOTTEN)
            if len(before.events) < len(whole.events):
                self._streams[stream] = whole
                self._events += len(whole.events) - len(before.events)
            self._streams.move_to_end(stream)
            while self._events > self._most:
                _, forgotten = self._streams.popitem(last=False)
                self._events -= len(forgotten.events)


def _extended(old: Remembered, events: list[Recorded[Any]]) -> Remembered | None:
    """Give a stream with its newer events, unless somebody could change those."""
    if not events:
        return old
    kinds = kinds_of(events)
    if not all(map(is_frozen_class, kinds)):
        return None
    return Remembered((*old.events, *events), old.kinds | kinds)
