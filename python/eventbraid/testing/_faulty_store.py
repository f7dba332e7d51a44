"""A store without an event loop that has the faults of a test."""

# Generated from _async_faulty_store.py by scripts/generate_sync.py; don't edit it.

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from eventbraid.errors import OutcomeUnknown
from eventbraid.event._registry import default_registry
from eventbraid.store import NewEvent
from eventbraid.testing._faults import (
    Conflict,
    Delay,
    FaultPlan,
    UnknownOutcome,
    raise_failures,
    spurious_category_conflict,
    spurious_conflict,
)
from eventbraid.testing._history import new_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from eventbraid.store import (
        Appended,
        CategoryStreams,
        Coordination,
        Expectation,
        RecordedEvent,
        Store,
        StreamsSnapshot,
    )
    from eventbraid.testing._faults import Fault, StoreCall


class FaultyStore:
    """A store that has the faults that a test injects.

    It wraps any store, and has the methods that commands, leases and sagas call. Other
    attributes are those of the wrapped store.

    Args:
        store: The wrapped store. It may be used directly, too, as by another process.
        *faults: The faults from the beginning: `Conflict`, `Delay`, `Failure`,
            `UnknownOutcome`.
        seed: The seed of the faults that have a probability.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import FaultyStore, UnknownOutcome
        >>> with eb.open("memory:") as inner:
        ...     store = FaultyStore(inner)
        ...     store.inject(UnknownOutcome(committed=True, times=1))
        ...     try:
        ...         store.append([("account-alice", "account.opened", b"{}")])
        ...     except eb.OutcomeUnknown:
        ...         print(store.version("account-alice"))
        1
    """

    def __init__(self, store: Store, *faults: Fault, seed: int = 0) -> None:
        """Wrap a store."""
        self._store = store
        self._plan = FaultPlan(faults, seed)

    @property
    def inner(self) -> Store:
        """The wrapped store, which has no faults."""
        return self._store

    @property
    def calls(self) -> Sequence[StoreCall]:
        """The calls so far."""
        return self._plan.calls

    @property
    def injected(self) -> Sequence[tuple[StoreCall, Fault]]:
        """The faults so far, each with the call that got it."""
        return self._plan.injected

    def inject(self, *faults: Fault) -> None:
        """Add faults after the present ones.

        Args:
            *faults: The faults. Without `at`, `where` and `probability`, a fault
                applies from the next call on.

        Raises:
            InvalidArgument: An argument isn't a fault.
        """
        self._plan.inject(*faults)

    @property
    def coordination(self) -> Coordination:
        """The coordination of the wrapped store."""
        return self._store.coordination

    def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
        content: bytes | None = None,
        expect_categories: Mapping[str, Expectation] | None = None,
    ) -> Appended:
        """Append events, with the faults of this call."""
        listed = list(events)
        faults = self._plan.faults_of(
            "append",
            events=listed,
            expect=expect,
            idempotency_key=idempotency_key,
            content=content,
            expect_categories=expect_categories,
        )
        self._begin(faults)
        for fault in faults:
            if isinstance(fault, Conflict):
                self._conflict(fault, expect or {}, expect_categories or {})
        _lose(faults, listed, idempotency_key, committed=False)
        appended = self._store.append(
            listed,
            expect=expect,
            idempotency_key=idempotency_key,
            content=content,
            expect_categories=expect_categories,
        )
        _lose(faults, listed, idempotency_key, committed=True)
        raise_failures(faults, after=True)
        return appended

    def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Return the result of an earlier append, with the faults of this call."""
        faults = self._plan.faults_of(
            "committed", idempotency_key=idempotency_key, content=content
        )
        self._begin(faults)
        found = self._store.committed(idempotency_key, content=content)
        raise_failures(faults, after=True)
        return found

    def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position, with the faults of this call."""
        listed = list(streams)
        known = None if after is None else dict(after)
        faults = self._plan.faults_of(
            "read_streams", streams=listed, at=at, after=known
        )
        self._begin(faults)
        snapshot = self._store.read_streams(listed, at=at, after=after)
        raise_failures(faults, after=True)
        return snapshot

    def category_streams(
        self,
        category: str,
        /,
        *,
        at: int | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> CategoryStreams:
        """Return the streams of a category, with the faults of this call."""
        faults = self._plan.faults_of(
            "category_streams", category=category, at=at, after=after, limit=limit
        )
        self._begin(faults)
        found = self._store.category_streams(category, at=at, after=after, limit=limit)
        raise_failures(faults, after=True)
        return found

    def version(self, stream: str) -> int:
        """Return the version of a stream, with the faults of this call."""
        faults = self._plan.faults_of("version", stream=stream)
        self._begin(faults)
        found = self._store.version(stream)
        raise_failures(faults, after=True)
        return found

    def head(self) -> int:
        """Return the position of the last event, with the faults of this call."""
        faults = self._plan.faults_of("head")
        self._begin(faults)
        found = self._store.head()
        raise_failures(faults, after=True)
        return found

    def read_stream(self, stream: str, **bounds: Any) -> Iterator[RecordedEvent]:
        """Read the events of one stream; the call is only recorded."""
        self._plan.faults_of("read_stream", stream=stream, **bounds)
        return self._store.read_stream(stream, **bounds)

    def read_all(self, **options: Any) -> Iterator[RecordedEvent]:
        """Read the log; the call is only recorded."""
        self._plan.faults_of("read_all", **options)
        return self._store.read_all(**options)

    def _begin(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            if isinstance(fault, Delay):
                time.sleep(fault.duration.total_seconds())
        raise_failures(faults, after=False)

    def _conflict(
        self,
        fault: Conflict,
        expect: Mapping[str, Expectation],
        expect_categories: Mapping[str, Expectation],
    ) -> None:
        if fault.by:
            registry = getattr(self._store, "registry", default_registry)
            rivals = [event for event, _ in new_events(fault.by, registry)]
            self._store.append(rivals)
            return
        if not expect:
            category = next(iter(expect_categories))
            found = self._store.category_streams(category, limit=0)
            raise spurious_category_conflict(category, expect_categories, found.version)
        stream = next(iter(expect))
        actual = self._store.version(stream)
        raise spurious_conflict(stream, expect, actual)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            # While an instance is copied or unpickled, it has no attributes yet.
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        return getattr(self._store, name)


def _lose(
    faults: Iterable[Fault],
    events: Iterable[NewEvent | tuple[str, str, Buffer]],
    idempotency_key: str | None,
    *,
    committed: bool,
) -> None:
    """Raise `OutcomeUnknown` if the append has this fault and this outcome."""
    for fault in faults:
        if isinstance(fault, UnknownOutcome) and fault.committed is committed:
            ids = [one.event_id for one in events if isinstance(one, NewEvent)]
            raise OutcomeUnknown(
                "the test has lost the answer",
                idempotency_key=idempotency_key,
                event_ids=[one for one in ids if one is not None],
            )
