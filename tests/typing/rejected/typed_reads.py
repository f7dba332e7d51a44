"""Wrong uses of typed reads: both checkers must refuse each marked line."""

from __future__ import annotations

import eventbraid as eb

from tests.typing.accepted.typed_reads import Account, Closed, Opened, Order, Placed


def use(store: eb.EventStore) -> None:
    account = Account("account-alice")
    eb.new_event(account, Placed())  # refused: the event of another kind
    eb.new_event(Order("order-1"), Closed())  # refused: the event of another kind
    eb.new_event(account, "closed")  # refused: no event
    eb.new_event(Account, Closed())  # refused: a kind, not a stream
    store.append([(account, Closed())])  # refused: new_event pairs them
    store.read_stream(Account)  # refused: a kind, not a stream
    store.read_stream(account, on_undecodable="skip")  # refused: no policy
    store.read_stream(account, on_undecodable=print("x"))  # refused: no function
    store.read_stream("account-alice", on_undecodable="raw")  # refused: not a typed read
    store.read_all("account")  # refused: by name only
    store.read_all(Opened)  # refused: an event, not a kind
    store.read_all(Account, category="account")  # refused: the kind has one
    store.read_all(Account, prefix="account-a")  # refused: the kind determines the streams
    store.read_all(on_undecodable="raw")  # refused: not a typed read
    store.subscribe(Account, stream="account-alice")  # refused: as above
    store.subscribe(Account, before=5)  # refused: a subscription has no end
    for recorded in store.read_all(Account):
        recorded.event.owner  # refused: not each event has an owner
    for undecoded in store.read_stream(account, on_undecodable="raw"):
        opened: Opened | Closed = undecoded.event  # refused: it may be undecoded
        del opened
    for placed in store.read_all(Order):
        placed.event.amount  # refused: no such field
    for raw in store.read_stream("order-1"):
        raw.event  # refused: raw events aren't decoded
    next(store.subscribe(Order)).event.amount  # refused: no such field


async def use_async(store: eb.AsyncEventStore) -> None:
    store.read_stream(Order)  # refused: a kind, not a stream
    store.subscribe("order")  # refused: by name only
    async for recorded in store.read_all(Order):
        recorded.event.amount  # refused: no such field
    for wrong in store.read_all(Order):  # refused: async for
        del wrong
