"""An immutable map for the states of streams that collect an entry for each event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Self, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ImmutableMap(Generic[K, V]):
    """A map that never changes: `with_item` returns a new one.

    A copy of a `dict` for each event would make the fold of a stream quadratic. This
    map is a sequence of layers: the entries of later ones replace those of the earlier
    ones. Each layer has at least twice as many entries as the next one, as in a
    log-structured merge tree. So an entry is copied O(log n) times in all, and a
    look-up searches at most log2(n) layers.

    Maps share their layers, which is safe because a layer is never changed once it is
    part of a map.

    Args:
        items: The first entries, as pairs of a key and a value.

    Example:
        >>> empty = ImmutableMap[str, int]()
        >>> one = empty.with_item("order-1", 2)
        >>> one.get("order-1", 0), empty.get("order-1", 0)
        (2, 0)
        >>> one.with_item("order-1", 5) == ImmutableMap([("order-1", 5)])
        True
    """

    __slots__ = ("_layers",)

    def __init__(self, items: Iterable[tuple[K, V]] = (), /) -> None:
        """Collect the first entries."""
        entries = dict(items)
        self._layers: tuple[dict[K, V], ...] = (entries,) if entries else ()

    def get(self, key: K, default: V, /) -> V:
        """Return the value of a key, or a default if it has none."""
        for layer in reversed(self._layers):
            if key in layer:
                return layer[key]
        return default

    def with_item(self, key: K, value: V, /) -> Self:
        """Return a map in which a key has another value."""
        layers, added = self._layers, {key: value}
        while layers and len(layers[-1]) < 2 * len(added):
            added = layers[-1] | added
            layers = layers[:-1]
        changed = type(self)()
        changed._layers = (*layers, added)  # noqa: SLF001 - of the same class
        return changed

    def as_dict(self) -> dict[K, V]:
        """Return all entries."""
        entries: dict[K, V] = {}
        for layer in self._layers:
            entries |= layer
        return entries

    def __contains__(self, key: K, /) -> bool:
        return any(key in layer for layer in self._layers)

    def __eq__(self, other: object, /) -> bool:
        if not isinstance(other, ImmutableMap):
            return NotImplemented
        return self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(frozenset(self.as_dict().items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.as_dict().items())!r})"

    def __deepcopy__(self, memo: dict[int, object], /) -> Self:
        """Return the map itself; so an executor shares states that contain it."""
        return self
