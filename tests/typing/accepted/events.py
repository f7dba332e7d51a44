"""Right uses of registries, upcasters and decoders: both checkers must accept them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import eventbraid as eb
from eventbraid.event import (
    EventDecoder,
    EventRegistry,
    OnUndecodable,
    UndecodedEvent,
    UpcastEvent,
    event_types,
    upcaster,
)

shop = EventRegistry()


@eb.event("typing.sold", version=3, formerly="typing.bought", registry=shop)
class Sold:
    cents: int
    currency: str = "EUR"


@eb.register_event("typing.seen", oldest_version=1, formerly=["a", "b"], registry=shop)
@eb.event("typing.viewed")
class Viewed: ...


@upcaster("typing.sold", from_version=1, registry=shop)
def count_cents(body: dict[str, Any]) -> dict[str, Any]:
    return {"cents": body["euros"] * 100}


@upcaster("typing.sold", from_version=2, registry=shop)
def add_currency(body: dict[str, Any], recorded: eb.RecordedEvent) -> dict[str, Any]:
    return body | {"currency": recorded.stream}


@upcaster("typing.old", from_version=1, into=["typing.sold"], registry=shop)
def split(body: dict[str, Any]) -> Iterator[UpcastEvent]:
    yield UpcastEvent("typing.sold", body)
    yield UpcastEvent("typing.seen", {}, version=1)


@upcaster("typing.older", from_version=1, into=[("typing.old", 1)], registry=shop)
def pass_on(
    body: dict[str, Any], recorded: eb.RecordedEvent
) -> tuple[UpcastEvent, ...]:
    return (UpcastEvent("typing.old", body),) if recorded.version else ()


def use() -> None:
    made: dict[str, Any] = count_cents({"euros": 3})
    shop.seal()
    names: tuple[str, ...] = event_types(Sold, Viewed, registry=shop)
    unreadable: list[UndecodedEvent] = []
    policy: OnUndecodable = "raw"
    with eb.open("memory:", registry=shop) as store:
        store.append([eb.new_event("a-1", Sold(5), registry=shop)])
        for decoder in (
            EventDecoder(),
            EventDecoder(registry=shop),
            EventDecoder(on_undecodable=policy),
            EventDecoder(on_undecodable=unreadable.append),
        ):
            for raw in store.read_all(types=names):
                for recorded in decoder.decode(raw):
                    event: object = recorded.event
                    assert event == made or recorded.part
            again: Iterator[eb.Recorded[object]] = decoder.decode_all(store.read_all())
            assert list(again) == []
        executor = eb.Executor(store, registry=shop, on_undecodable="raise")
        registry: EventRegistry = executor.registry
        assert registry is shop
        assert eb.event_type(Sold, registry=shop)
