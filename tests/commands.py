"""Accounts to test commands with, and stores that others write to in between."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

RETRY_TIMEOUT = timedelta(seconds=30)


class Money(eb.Int, ge=0):
    """Cents."""


@eb.event("test.account.deposited")
class Deposited:
    amount: Money


@eb.event("test.account.withdrawn")
class Withdrawn:
    amount: Money


@eb.event("test.limit.set", version=2, oldest_version=2)
class LimitSet:
    amount: Money


@eb.event("test.group.joined")
class Joined:
    account: str


AccountEvent = Deposited | Withdrawn


class Account(eb.Stream[AccountEvent], category="account"): ...


class Limit(eb.Stream[LimitSet], category="limit"): ...


class Group(eb.Stream[Joined], category="group"): ...


class Deposit(eb.StatefulCommand[int, AccountEvent]):
    account: eb.Declared[Account]
    amount: Money

    def initial(self) -> int:
        return 0

    def apply(self, state: int, recorded: eb.Recorded[AccountEvent], /) -> int:
        return state + 1

    def decide(self, state: int, /) -> Iterator[eb.Write]:
        yield self.account.write(Deposited(self.amount))


class Transfer(eb.StatefulCommand[dict[str, int], AccountEvent | LimitSet]):
    """Moves money; the limit's stream is only read."""

    source: eb.Declared[Account]
    target: eb.Declared[Account]
    limit: eb.Declared[Limit]
    amount: Money

    def initial(self) -> dict[str, int]:
        return {}

    def apply(
        self,
        state: dict[str, int],
        recorded: eb.Recorded[AccountEvent | LimitSet],
        /,
    ) -> dict[str, int]:
        match recorded.event:
            case Deposited(amount):
                change = int(amount)
            case Withdrawn(amount):
                change = -int(amount)
            case LimitSet(amount):
                state[recorded.stream] = int(amount)
                return state
        state[recorded.stream] = state.get(recorded.stream, 0) + change
        return state

    def decide(self, state: dict[str, int], /) -> Iterator[eb.Write]:
        left = state.get(self.source, 0)
        eb.require(left >= int(self.amount), "insufficient_funds", left=left)
        if self.limit in state:
            limit = state[self.limit]
            eb.require(int(self.amount) <= limit, "limit_exceeded", limit=limit)
        yield self.source.write(Withdrawn(self.amount))
        yield self.target.write(Deposited(self.amount))


class PayAll(eb.StatefulCommand[tuple[str, ...], Joined | AccountEvent]):
    """Pays every account that has joined a group: discovered, not declared."""

    group: eb.Declared[Group]
    amount: Money

    def initial(self) -> tuple[str, ...]:
        return ()

    def apply(
        self, state: tuple[str, ...], recorded: eb.Recorded[Joined | AccountEvent], /
    ) -> tuple[str, ...]:
        match recorded.event:
            case Joined(account):
                return (*state, account)
            case _:
                return state

    def discover(self, state: tuple[str, ...], /) -> Iterable[eb.Stream[Any]]:
        return [Account(account) for account in state]

    def decide(self, state: tuple[str, ...], /) -> Iterator[eb.Write]:
        for account in state:
            yield self.discovered(Account(account)).write(Deposited(self.amount))


def raw(stream: str, event: object) -> eb.NewEvent:
    """An event as another writer would append it."""
    return eb.new_event(stream, event)


class Meddled:
    """A store face that does things around appends and remembers what was asked.

    Attributes:
        before: The events that other writers append before each of the next appends.
        rival: A function that another writer calls once, before the next append.
        losing: How many of the next appends are done, but their answer is lost.
        failing: How many of the next appends fail with an unknown outcome, undone.
        asked: Names of the methods that were called.
        read: The arguments of each read of streams.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.before: deque[list[eb.NewEvent]] = deque()
        self.rival: Callable[[], Any] | None = None
        self.losing = 0
        self.failing = 0
        self.asked: list[str] = []
        self.read: list[tuple[list[str], int | None, Mapping[str, int] | None]] = []

    def _lost(self) -> eb.OutcomeUnknown:
        return eb.OutcomeUnknown("the answer was lost", idempotency_key="key")


class SyncMeddled(Meddled):
    def append(self, events: Any, **options: Any) -> eb.Appended:
        self.asked.append("append")
        if self.before:
            self.inner.append(self.before.popleft())
        if self.rival is not None:
            self.rival()
        if self.failing:
            self.failing -= 1
            raise self._lost()
        appended = self.inner.append(events, **options)
        if self.losing:
            self.losing -= 1
            raise self._lost()
        return appended

    def committed(self, key: str, **options: Any) -> eb.Appended | None:
        self.asked.append("committed")
        return self.inner.committed(key, **options)

    def read_streams(
        self, streams: Any, *, at=None, after=None
    ) -> eb.store.StreamsSnapshot:
        self.asked.append("read_streams")
        self.read.append((list(streams), at, None if after is None else dict(after)))
        return self.inner.read_streams(streams, at=at, after=after)

    def read_all(self, **options: Any) -> Any:
        self.asked.append("read_all")
        return self.inner.read_all(**options)


class AsyncMeddled(Meddled):
    async def append(self, events: Any, **options: Any) -> eb.Appended:
        self.asked.append("append")
        if self.before:
            await self.inner.append(self.before.popleft())
        if self.rival is not None:
            await self.rival()
        if self.failing:
            self.failing -= 1
            raise self._lost()
        appended = await self.inner.append(events, **options)
        if self.losing:
            self.losing -= 1
            raise self._lost()
        return appended

    async def committed(self, key: str, **options: Any) -> eb.Appended | None:
        self.asked.append("committed")
        return await self.inner.committed(key, **options)

    async def read_streams(
        self, streams: Any, *, at=None, after=None
    ) -> eb.store.StreamsSnapshot:
        self.asked.append("read_streams")
        self.read.append((list(streams), at, None if after is None else dict(after)))
        return await self.inner.read_streams(streams, at=at, after=after)

    def read_all(self, **options: Any) -> Any:
        self.asked.append("read_all")
        return self.inner.read_all(**options)


class Bank:
    """One store with an executor on it, awaited whether it is awaitable or not."""

    def __init__(
        self,
        store: Meddled,
        make: Callable[..., Any],
        settle: Callable[[Any], Awaitable[Any]],
    ) -> None:
        self.store = store
        self._make = make
        self._settle = settle

    async def given(self, *events: tuple[str, object]) -> None:
        """Append these events as other writers."""
        new = [raw(stream, event) for stream, event in events]
        await self._settle(self.store.inner.append(new))

    async def execute(
        self,
        command: eb.StatefulCommand[Any, Any],
        *,
        retry: eb.RetryPolicy | None = None,
        retry_timeout: timedelta = RETRY_TIMEOUT,
        rounds: int = 16,
        streams: int = 1_000,
        **options: Any,
    ) -> eb.Executed:
        executor = self._make(
            self.store,
            retry=retry or eb.RetryPolicy(),
            retry_timeout=retry_timeout,
            discovery_rounds=rounds,
            discovery_streams=streams,
        )
        return await self._settle(executor.execute(command, **options))

    def rival(self, command: eb.StatefulCommand[Any, Any], **options: Any) -> Any:
        """Another writer, with its own executor, executes the command, too."""
        return self._make(self.store.inner).execute(command, **options)

    async def events(self, stream: str) -> list[object]:
        """What the stream holds now."""
        snapshot = await self._settle(self.store.inner.read_streams([stream]))
        return [eb.decode_event(one) for one in snapshot.events]

    async def recorded(self, stream: str) -> list[eb.RecordedEvent]:
        """What the stream holds now, with metadata."""
        snapshot = await self._settle(self.store.inner.read_streams([stream]))
        return snapshot.events

    async def head(self) -> int:
        snapshot = await self._settle(self.store.inner.read_streams([]))
        return snapshot.position
