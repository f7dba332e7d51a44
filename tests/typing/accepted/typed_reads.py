"""Right uses of typed reads and subscriptions: both checkers must accept them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeAlias, TypeVar, assert_type

import eventbraid as eb
from eventbraid.event import OnUndecodable, UndecodedEvent
from eventbraid.store import (
    AsyncStore,
    AsyncTypedSubscription,
    Store,
    TypedStream,
    TypedSubscription,
)


@eb.event("typing.account.opened")
class Opened:
    owner: str


@eb.event("typing.account.closed")
class Closed: ...


@eb.event("typing.order.placed")
class Placed: ...


E = TypeVar("E")
AccountEvent: TypeAlias = Opened | Closed


class Account(eb.Stream[AccountEvent, int], category="account"):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: AccountEvent, /) -> int:
        return state + 1


class Order(eb.Stream[Placed], category="order"): ...


def use(store: eb.EventStore, aside: Callable[[UndecodedEvent], None]) -> None:
    account = Account("account-alice")
    opened = eb.new_event(account, Opened("Alice"))
    store.append([opened, eb.new_event(Order("order-1"), Placed()), ("x", "y", b"")])
    eb.new_event("account-alice", Placed())
    read = store.read_stream(account, after=1, before=9, limit=5, backward=True)
    assert_type(read, Iterator[eb.Recorded[AccountEvent]])
    assert_type(store.read_stream("a"), Iterator[eb.RecordedEvent])
    for recorded in store.read_stream(account, on_undecodable=aside):
        match recorded.event:
            case Opened(owner):
                assert_type(owner, str)
            case Closed():
                pass
    raw = store.read_stream(account, on_undecodable="raw")
    assert_type(raw, Iterator[eb.Recorded[AccountEvent | UndecodedEvent]])
    assert_type(store.read_all(Account), Iterator[eb.Recorded[AccountEvent]])
    assert_type(
        store.read_all(Order, types=["typing.order.placed"]),
        Iterator[eb.Recorded[Placed]],
    )
    assert_type(store.read_all(account, after=3), Iterator[eb.Recorded[AccountEvent]])
    assert_type(store.read_all(category="order"), Iterator[eb.RecordedEvent])
    with store.subscribe(Account, after=store.head()) as news:
        assert_type(news, TypedSubscription[AccountEvent])
        assert_type(next(news), eb.Recorded[AccountEvent])
        assert_type(news.position, int)
    assert_type(
        store.subscribe(account, on_undecodable="raw"),
        TypedSubscription[AccountEvent | UndecodedEvent],
    )
    assert_type(store.subscribe(category="order"), eb.Subscription)
    untyped: Store = store
    del untyped


async def use_async(store: eb.AsyncEventStore) -> None:
    read = store.read_stream(Account("account-alice"))
    assert_type(read, AsyncIterator[eb.Recorded[AccountEvent]])
    async for recorded in store.read_all(Order):
        assert_type(recorded.event, Placed)
    async with store.subscribe(Order) as news:
        assert_type(news, AsyncTypedSubscription[Placed])
        async for one in news:
            assert_type(one, eb.Recorded[Placed])
    untyped: AsyncStore = store
    del untyped


def generic(store: eb.EventStore, policy: OnUndecodable) -> None:
    """A function over any kind of stream, with any policy."""
    assert_type(last_event(store, Account("account-alice")), AccountEvent | None)
    for recorded in store.read_all(Account, on_undecodable=policy):
        assert_type(recorded.event, AccountEvent | UndecodedEvent)


def last_event(store: eb.EventStore, stream: TypedStream[E]) -> E | None:
    for recorded in store.read_stream(stream, limit=1, backward=True):
        return recorded.event
    return None
