"""A store for event loops that has the faults of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

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
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from typing_extensions import Buffer

    from eventbraid.store import (
        Appended,
        AsyncStore,
        CategoryStreams,
        Coordination,
        Expectation,
        RecordedEvent,
        StreamsSnapshot,
    )
    from eventbraid.testing._faults import Fault, StoreCall


class AsyncFaultyStore:
    """A store that has the faults that a test injects.

    It wraps any store, and has the methods that commands, leases and sagas call. Other
    attributes are those of the wrapped store.

    Args:
        store: The wrapped store. It may be used directly, too, as by another process.
        *faults: The faults from the beginning: `Conflict`, `Delay`, `Failure`,
            `UnknownOutcome`.
        seed: The seed of the faults that have a probability.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> from eventbraid.testing import AsyncFaultyStore, UnknownOutcome
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as inner:
        ...         store = AsyncFaultyStore(inner)
        ...         store.inject(UnknownOutcome(committed=True, times=1))
        ...         try:
        ...             await store.append([("account-alice", "account.opened", b"{}")])
        ...         except eb.OutcomeUnknown:
        ...             print(await store.version("account-alice"))
        >>> asyncio.run(main())
        1
    """

    def __init__(self, store: AsyncStore, *faults: Fault, seed: int = 0) -> None:
        """Wrap a store."""
        self._store = store
        self._plan = FaultPlan(faults, seed)

    @property
    def inner(self) -> AsyncStore:
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

    async def append(
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
        await self._begin(faults)
        for fault in faults:
            if isinstance(fault, Conflict):
                await self._conflict(fault, expect or {}, expect_categories or {})
        _lose(faults, listed, idempotency_key, committed=False)
        appended = await self._store.append(
            listed,
            expect=expect,
            idempotency_key=idempotency_key,
            content=content,
            expect_categories=expect_categories,
        )
        _lose(faults, listed, idempotency_key, committed=True)
        raise_failures(faults, after=True)
        return appended

    async def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Return the result of an earlier append, with the faults of this call."""
        faults = self._plan.faults_of(
            "committed", idempotency_key=idempotency_key, content=content
        )
        await self._begin(faults)
        found = await self._store.committed(idempotency_key, content=content)
        raise_failures(faults, after=True)
        return found

    async def read_streams(
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
        await self._begin(faults)
        snapshot = await self._store.read_streams(listed, at=at, after=after)
        raise_failures(faults, after=True)
        return snapshot

    async def category_streams(
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
        await self._begin(faults)
        found = await self._store.category_streams(
            category, at=at, after=after, limit=limit
        )
        raise_failures(faults, after=True)
        return found

    async def version(self, stream: str) -> int:
        """Return the version of a stream, with the faults of this call."""
        faults = self._plan.faults_of("version", stream=stream)
        await self._begin(faults)
        found = await self._store.version(stream)
        raise_failures(faults, after=True)
        return found

    async def head(self) -> int:
        """Return the position of the last event, with the faults of this call."""
        faults = self._plan.faults_of("head")
        await self._begin(faults)
        found = await self._store.head()
        raise_failures(faults, after=True)
        return found

    def read_stream(self, stream: str, **bounds: Any) -> AsyncIterator[RecordedEvent]:
        """Read the events of one stream; the call is only recorded."""
        self._plan.faults_of("read_stream", stream=stream, **bounds)
        return self._store.read_stream(stream, **bounds)

    def read_all(self, **options: Any) -> AsyncIterator[RecordedEvent]:
        """Read the log; the call is only recorded."""
        self._plan.faults_of("read_all", **options)
        return self._store.read_all(**options)

    async def _begin(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            if isinstance(fault, Delay):
                await anyio.sleep(fault.duration.total_seconds())
        raise_failures(faults, after=False)

    async def _conflict(
        self,
        fault: Conflict,
        expect: Mapping[str, Expectation],
        expect_categories: Mapping[str, Expectation],
    ) -> None:
        if fault.by:
            registry = getattr(self._store, "registry", default_registry)
            rivals = [event for event, _ in new_events(fault.by, registry)]
            await self._store.append(rivals)
            return
        if not expect:
            category = next(iter(expect_categories))
            found = await self._store.category_streams(category, limit=0)
            raise spurious_category_conflict(category, expect_categories, found.version)
        stream = next(iter(expect))
        actual = await self._store.version(stream)
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
