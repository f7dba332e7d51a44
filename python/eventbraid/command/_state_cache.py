"""A cache of the states of streams, which all executors of a store share in a process.

An entry is a stream's state and the version that it was folded up to. It may be older
than the stream, because other processes append, too. It needs no invalidation: a
command decides on the state, and the append expects the version. If the stream has
another version by then, the append fails, and only the events after the entry are read.

The cache has two generations. An entry that is used moves to the young generation. When
the young generation has half of the allowed bytes, it becomes the old one, and the
previous old generation is dropped. So the entries that were not used for longest are
dropped, without a list in the order of their use, which would take more memory than
most states.
"""

from __future__ import annotations

import copy
import gc
import sys
import threading
import types
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from eventbraid.command._immutable import is_always_immutable, is_immutable
from eventbraid.command._pending_states import PendingStates
from eventbraid.store._fork import PerProcess

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from eventbraid.command._cached_state import CachedState, Kind, States
    from eventbraid.event import EventDecoder, EventRegistry


ENTRY_BYTES = 300
"""The bytes of an entry besides its state: the stream's id, the tuple, the version, and
the places in two dictionaries."""

EVENT_BYTES = 200
"""The bytes, besides its data, by which an event may enlarge a state until the state is
measured again."""

_PROGRESS_LIMIT = 64
"""The maximum number of streams of which the state of an unfinished fold is kept."""

_LARGEST_MEASURED = 1_000_000
"""The maximum number of objects of a state that are counted to measure it."""

_NOT_COUNTED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)


class StateCache:
    """The states of streams that commands used last, up to a total of bytes.

    Immutable states are shared. Any other state is copied for each command, so that a
    change of it, for example in `decide`, has no effect on other commands.
    """

    __slots__ = (
        "__weakref__",
        "_generation",
        "_lock",
        "_old",
        "_size",
        "_young",
        "limit",
        "loading",
        "members",
        "pending",
        "progress",
        "registry",
        "saves_snapshots",
    )

    def __init__(
        self,
        registry: EventRegistry,
        limit: int = 0,
        *,
        saves_snapshots: bool = True,
    ) -> None:
        """Begin empty.

        Args:
            registry: The registry of the events.
            limit: The maximum size in bytes, which is estimated.
            saves_snapshots: Whether snapshots of the states may be recorded. A state
                that was folded without an undecodable event, as the policy of one
                executor allows, must not become the state of all executors.
        """
        self.limit = limit
        self.saves_snapshots = saves_snapshots
        # The streams that a command of this process reads from their beginning. Others
        # wait for it: without this, each command of a herd would fold a long stream.
        self.loading: set[tuple[Kind, str]] = set()
        # The states of contended streams after appends that aren't durable yet.
        self.pending = PendingStates()
        # The first streams of the categories that commands have discovered. They remain
        # the first ones, so they need no invalidation. `read_category` adds to them, up
        # to the limit of discovery.
        self.members: dict[str, tuple[str, ...]] = {}
        self.registry = registry
        # The states of long streams that were folded only in part: by a command that
        # hasn't finished, or that was cancelled. They are no states to decide on, so
        # `find` doesn't return them.
        self.progress: dict[tuple[Kind, str], CachedState] = {}
        # Protects the exchange of the generations, the size and the unfinished states.
        # Without it, two threads could both exchange them, and drop entries that were
        # just used. Lookups take no lock: they read a dictionary that at most becomes
        # the old one meanwhile.
        self._lock = threading.Lock()
        self._generation = self.registry.generation
        self._young: States = {}
        self._old: States = {}
        self._size = 0

    @property
    def size(self) -> int:
        """The estimated bytes of the young generation, at most half of the limit."""
        return self._size

    def find(self, kind: Kind, stream: str) -> CachedState | None:
        """Return the cached state of a stream; the caller may change it."""
        generation = self._generation
        if generation != self.registry.generation:
            # A class of events was defined again; a state may have instances of it.
            self.clear()
            return None
        found = self._young.get(kind)
        entry = None if found is None else found.get(stream)
        if entry is None:
            found = self._old.get(kind)
            entry = None if found is None else found.get(stream)
            if entry is None:
                return None
            # It moves to the young generation.
            self.put(kind, stream, entry[0], entry[1], generation, entry=entry)
        return entry if entry[2] else self.own_copy(kind, stream, entry)

    def peek(self, kind: Kind, stream: str) -> CachedState | None:
        """Return the entry of a stream; the caller may only use its version."""
        young = self._young.get(kind)
        entry = None if young is None else young.get(stream)
        if entry is None:
            old = self._old.get(kind)
            entry = None if old is None else old.get(stream)
        return entry

    def has(self, kind: Kind, stream: str) -> bool:
        """Return whether the state of a stream is in the cache."""
        return stream in self._young.get(kind, ()) or stream in self._old.get(kind, ())

    def put(
        self,
        kind: Kind,
        stream: str,
        version: int,
        state: Any,
        generation: int,
        added: int = 0,
        previous: CachedState | None = None,
        entry: CachedState | None = None,
    ) -> CachedState:
        """Cache the state of a stream, and return its entry.

        If the state isn't immutable, the caller gets `own_copy` of the entry before it
        passes the state to a command.

        Args:
            kind: The stream's kind.
            stream: The stream's id.
            version: The version up to which the state was folded.
            state: The state. From now on it belongs to the cache.
            generation: The generation of the registry before the first event of the
                state was decoded, or before the state was looked up. If the cache has
                been cleared since, the state isn't cached.
            added: The bytes of the events since an entry that is in the cache already;
                0 if the state was not folded from such an entry.
            previous: The entry that the state was folded from, if any. The parts of the
                state that were parts of an immutable one aren't examined again.
            entry: The entry, if there is one already.
        """
        if not self.limit:
            return version, state, False, 0, 0
        if entry is None and is_always_immutable(state.__class__):
            # Such a state refers to no other object, but it may be a long text.
            size = ENTRY_BYTES + sys.getsizeof(state)
            entry = (version, state, True, size, 0)
        elif entry is None:
            known = previous[1] if previous is not None and previous[2] else None
            is_shared = is_immutable(state, known)
            size, measured = self._estimated(kind, stream, added)
            if size > 2 * measured:
                size = measured = ENTRY_BYTES + size_of(state)
            entry = (version, state, is_shared, size, measured)
        with self._lock:
            if generation != self._generation:
                # The cache was cleared since the entry was folded or looked up.
                return entry
            young = self._young.get(kind)
            if young is None:
                young = self._young[kind] = {}
            known = young.get(stream)
            if known is not None:
                if known[0] > version:
                    return entry
                self._size -= known[3]
            young[stream] = entry
            self._size += entry[3]
            if self._size > self.limit // 2:
                self._old, self._young = self._young, {}
                self._size = 0
        return entry

    def own_copy(
        self, kind: Kind, stream: str, entry: CachedState
    ) -> CachedState | None:
        """Return an entry with a copy of its state, which the caller may change.

        Without a copy there is nothing to share: then the entry is dropped, the result
        is None, and each command folds all events.
        """
        if not self.limit:
            # The state isn't cached, so it belongs to the caller already.
            return entry
        try:
            copied: object = copy.deepcopy(entry[1])
        except Exception:  # noqa: BLE001 - whatever the state's class raises
            self.drop(kind, stream)
            return None
        return entry[0], copied, *entry[2:]

    def note_progress(
        self, kind: Kind, stream: str, entry: CachedState, generation: int
    ) -> None:
        """Keep the state of an unfinished fold, for the next command on the stream.

        Args:
            kind: The stream's kind.
            stream: The stream's id.
            entry: The version up to which the state is folded, and the state. If it is
                mutable, the caller doesn't use it any more.
            generation: As for `put`.
        """
        with self._lock:
            if not self.limit or generation != self._generation:
                return
            progress = self.progress
            known = progress.pop((kind, stream), None)
            if known is not None and known[0] > entry[0]:
                entry = known
            elif len(progress) >= _PROGRESS_LIMIT:
                del progress[next(iter(progress))]
            progress[kind, stream] = entry

    def find_further(
        self, kind: Kind, stream: str, generation: int, after: int, until: int
    ) -> CachedState | None:
        """Return a newer state than that of an unfinished fold, as `find` does.

        Args:
            kind: The stream's kind.
            stream: The stream's id.
            generation: The generation in which the fold began.
            after: The version of the fold.
            until: The highest version of the result.
        """
        if generation != self._generation:
            return None
        for states in (self._young, self._old):
            entry = states.get(kind, {}).get(stream)
            if entry is not None and after < entry[0] <= until:
                return entry if entry[2] else self.own_copy(kind, stream, entry)
        entry = self.progress.get((kind, stream))
        is_further = entry is not None and entry[2] and after < entry[0] <= until
        return entry if is_further else None

    def find_progress(
        self, kind: Kind, stream: str, generation: int
    ) -> CachedState | None:
        """Return the state of an unfinished fold; a mutable one only once."""
        with self._lock:
            if generation != self._generation:
                return None
            found = self.progress.get((kind, stream))
            if found is not None and not found[2]:
                del self.progress[kind, stream]
            return found

    def end_progress(self, kind: Kind, stream: str) -> None:
        """Drop the state of an unfinished fold, because one has been finished."""
        with self._lock:
            self.progress.pop((kind, stream), None)

    def drop(self, kind: Kind, stream: str) -> None:
        """Drop the state of a stream."""
        with self._lock:
            dropped = self._young.get(kind, {}).pop(stream, None)
            if dropped is not None:
                self._size -= dropped[3]
            self._old.get(kind, {}).pop(stream, None)

    def clear(self) -> None:
        """Drop all states."""
        with self._lock:
            self._generation = self.registry.generation
            self._young, self._old = {}, {}
            self.progress = {}
            self._size = 0
        self.pending.clear()

    def _estimated(self, kind: Kind, stream: str, added: int) -> tuple[int, int]:
        """Return the size of a state that grew by some events, and its last measure.

        To measure a large state takes long. So it is measured again only when its
        events may have doubled its size.
        """
        entry = self._young.get(kind, {}).get(stream) if added else None
        if entry is None:
            return sys.maxsize, 0
        return entry[3] + added, entry[4]


def size_of(state: object) -> int:
    """Return the bytes of a state and of everything that only it may refer to."""
    size = 0
    seen = {id(state)}
    left = [state]
    while left:
        one = left.pop()
        size += sys.getsizeof(one)
        for member in gc.get_referents(one):
            if id(member) not in seen and not isinstance(member, _NOT_COUNTED):
                seen.add(id(member))
                left.append(member)
        if len(seen) > _LARGEST_MEASURED:
            return sys.maxsize
    return size


class _Caches:
    """The caches of one store in this process, by the decoders of the executors."""

    __slots__ = ("_kept", "_used")

    def __init__(self) -> None:
        """Begin without caches."""
        self._kept: dict[EventDecoder, StateCache] = {}
        # The policy of these decoders is a function. A program may make one for each
        # executor, so each cache exists only as long as an executor with this function.
        # Otherwise all of these caches would stay in memory until the store is closed.
        self._used: MutableMapping[EventDecoder, StateCache] = (
            weakref.WeakValueDictionary()
        )

    def of(self, decoder: EventDecoder) -> StateCache:
        """Return the cache of a decoder."""
        caches = self._used if callable(decoder.on_undecodable) else self._kept
        is_strict = decoder.on_undecodable == "raise"
        return caches.setdefault(
            decoder, StateCache(decoder.registry, saves_snapshots=is_strict)
        )


_caches: MutableMapping[object, PerProcess[_Caches]] = weakref.WeakKeyDictionary()
_caches_lock = PerProcess(threading.Lock)


def state_cache_of(
    coordination: object, decoder: EventDecoder
) -> PerProcess[StateCache]:
    """Return the cache of all executors that share a store and decode events alike.

    Args:
        coordination: The store's `Coordination`, which is the same object for the store
            and its async form. The cache exists as long as this object or one of the
            executors; with a function as the policy, as long as one of the executors.
        decoder: The decoder of the executor. Executors with different registries or
            policies may fold the same records to different states.

    Returns:
        The cache; for an object without weak references, a new one.
    """
    caches: PerProcess[_Caches]
    try:
        with _caches_lock.get():
            caches = _caches.setdefault(coordination, PerProcess(_Caches))
    except TypeError:
        caches = PerProcess(_Caches)
    return PerProcess(partial(_cache_of, caches, decoder))


def _cache_of(caches: PerProcess[_Caches], decoder: EventDecoder) -> StateCache:
    with _caches_lock.get():
        return caches.get().of(decoder)
