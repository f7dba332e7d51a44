"""Faults of the execution of commands, each of which breaks one promise.

A cache of states, or an executor, could have each of these faults, and the checks must find
each of them. A function plants its fault in the present process, which is one of several,
and returns the store for the executor.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import eventbraid as eb
from eventbraid.command import (
    _state_cache,
    _state_reading,
    _stream_loading,
)
from eventbraid.command._snapshot_format import SnapshotFormat
from eventbraid.command._state_cache import StateCache

CHANCE = 0.2

_random = random.Random()


def at_random(chance: float = CHANCE) -> bool:
    return _random.random() < chance


class Wrapped:
    """A store, some of whose methods a subclass replaces."""

    def __init__(self, store: eb.EventStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def replace(function: Any, *modules: Any) -> None:
    """Replace a function in all modules that have imported it."""
    for module in modules:
        assert hasattr(module, function.__name__), module
        setattr(module, function.__name__, function)


class ExpectingNothing(Wrapped):
    """A decision on a cached state is sometimes appended without an expectation."""

    def append(self, events: Iterable[Any], *, expect: Any = None, **options: Any):
        if expect and at_random():
            expect = None
        return self._store.append(events, expect=expect, **options)


class ExpectingWritten(Wrapped):
    """Streams that are only read aren't checked (rule 22)."""

    def append(self, events: Iterable[Any], *, expect: Any = None, **options: Any):
        events = list(events)
        written = {event.stream for event in events}
        if expect and written:
            expect = {one: held for one, held in expect.items() if one in written}
        return self._store.append(events, expect=expect, **options)


class AppendingTwice(Wrapped):
    """A transfer is appended in two commits, between which others may read."""

    def append(self, events: Iterable[Any], *, expect: Any = None, **options: Any):
        events = list(events)
        if len(events) < 2 or options.get("idempotency_key"):
            return self._store.append(events, expect=expect, **options)
        first = self._store.append(events[:1], expect=expect)
        time.sleep(0.005)
        last = self._store.append(events[1:])
        versions = {**first.versions, **last.versions}
        return eb.Appended(
            first.first_position, last.last_position, versions, replayed=False
        )


class ForgettingKeys(Wrapped):
    """A key is sometimes neither looked up nor appended."""

    def append(
        self, events: Iterable[Any], *, idempotency_key: Any = None, **options: Any
    ):
        if idempotency_key is not None and at_random():
            idempotency_key = options["content"] = None
        return self._store.append(events, idempotency_key=idempotency_key, **options)

    def committed(self, key: str, **options: Any):
        return None if at_random() else self._store.committed(key, **options)


def confusing_streams(store: eb.EventStore) -> eb.EventStore:
    """The cache sometimes has the state of another stream, at the right version."""
    find = StateCache.find

    def find_another(self: StateCache, kind: Any, stream: str) -> Any:
        found = find(self, kind, stream)
        if found is not None and at_random(0.05):
            others = [*self._young.get(kind, {}).values()]
            if others:
                return found[0], _random.choice(others)[1], *found[2:]
        return found

    StateCache.find = find_another  # type: ignore[method-assign]
    return store


def sharing_mutable_states(store: eb.EventStore) -> eb.EventStore:
    """A mutable state is taken for immutable, and keeps the changes of a command."""

    def is_immutable(state: object, *_: object) -> bool:
        return True

    replace(is_immutable, _state_cache)
    return store


def loading_from_the_cache(store: eb.EventStore) -> eb.EventStore:
    """`load` returns a cached state without a look at the newer events."""
    loader = _stream_loading.StateLoader

    class CachedLoader(loader):
        async def load(self, wanted: Mapping[Any, Any], **options: Any) -> Any:
            if None in wanted.values() or at_random():
                return await loader.load(self, wanted, **options)
            return None, wanted

    # Commands keep the correct loader, which their module has imported.
    _stream_loading.StateLoader = CachedLoader  # type: ignore[misc]
    return store


def confirming_nothing(store: eb.EventStore) -> eb.EventStore:
    """A rejection on cached states is reported without a look at the streams."""

    async def confirm(self: Any, port: Any) -> bool:
        return True

    _state_reading.StateReading.confirm = confirm  # type: ignore[method-assign]
    return store


def keeping_states_without_their_events(store: eb.EventStore) -> eb.EventStore:
    """The cache sometimes has an older state at a new version."""
    put = StateCache.put

    def put_older(
        self: StateCache,
        kind: Any,
        stream: str,
        version: int,
        state: Any,
        *rest: Any,
        **options: Any,
    ) -> Any:
        older = self._young.get(kind, {}).get(stream)
        options.pop("entry", None)
        if older is not None and at_random(0.1):
            state = older[1]
        return put(self, kind, stream, version, state, *rest, **options)

    StateCache.put = put_older  # type: ignore[method-assign]
    return store


def miscounting_snapshots(store: eb.EventStore) -> eb.EventStore:
    """A snapshot is taken for that of a later version."""
    decoded = SnapshotFormat.decoded

    def decoded_later(self: Any, stream: str, *arguments: Any) -> Any:
        found = decoded(self, stream, *arguments)
        return None if found is None else (found[0] + 1, *found[1:])

    SnapshotFormat.decoded = decoded_later  # type: ignore[method-assign]
    return store


def executing_concurrent_keys(store: eb.EventStore) -> Any:
    """Of two executions with a key at a time, both may append: no key reaches the store."""

    class WithoutKeys(Wrapped):
        def append(
            self, events: Iterable[Any], *, idempotency_key: Any = None, **options: Any
        ):
            options.pop("content", None)
            done = self._store.append(events, **options)
            if idempotency_key is not None:
                with lock:
                    results.setdefault(idempotency_key, done)
            return done

        def committed(self, key: str, **options: Any):
            done = results.get(key)
            if done is None:
                return None
            return eb.Appended(
                done.first_position, done.last_position, done.versions, replayed=True
            )

    lock = threading.Lock()
    results: dict[str, Any] = {}
    return WithoutKeys(store)


def retrying_on_the_first_state(store: eb.EventStore) -> eb.EventStore:
    """After a conflict, the command appends its first decision with new versions."""

    class Insisting(Wrapped):
        def append(self, events: Iterable[Any], *, expect: Any = None, **options: Any):
            events = list(events)
            while True:
                try:
                    return self._store.append(events, expect=expect, **options)
                except eb.VersionConflict as conflict:
                    newer: Mapping[str, int] = {
                        one.stream: one.actual for one in conflict.failures
                    }
                    expect = {**expect, **newer}

    return Insisting(store)  # type: ignore[return-value]


FAULTS = {
    ExpectingNothing: {"decisions"},
    ExpectingWritten: {"decisions"},
    AppendingTwice: {"results", "total"},
    ForgettingKeys: {"keys"},
    confusing_streams: {"decisions", "loads"},
    sharing_mutable_states: {"decisions", "loads"},
    loading_from_the_cache: {"loads"},
    confirming_nothing: {"rejections"},
    keeping_states_without_their_events: {"decisions", "loads"},
    miscounting_snapshots: {"loads"},
    executing_concurrent_keys: {"keys"},
    retrying_on_the_first_state: {"decisions"},
}
"""Each fault, and the checks that must each find it."""
