"""Wrong uses of registries, upcasters and decoders: both checkers must refuse each marked line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import eventbraid as eb
from eventbraid.event import EventDecoder, EventRegistry, UpcastEvent, event_types, upcaster

from tests.typing.accepted.events import Sold, shop


@upcaster("typing.a", from_version=1)  # refused: returns nothing
def nothing(body: dict[str, Any]) -> None:
    body["x"] = 1


@upcaster("typing.b", from_version=1)  # refused: several events need into=
def several(body: dict[str, Any]) -> Iterator[UpcastEvent]:
    yield UpcastEvent("typing.sold", body)


@upcaster("typing.c", from_version=1, into=["typing.sold"])  # refused: events, not a body
def one(body: dict[str, Any]) -> dict[str, Any]:
    return body


@upcaster("typing.d", from_version=1)  # refused: three parameters
def three(body: dict[str, Any], recorded: eb.RecordedEvent, more: int) -> dict[str, Any]:
    return body


@upcaster("typing.e", from_version=1)  # refused: the body is a dict
def typed(body: Sold) -> dict[str, Any]:
    return {}


upcaster("typing.f")  # refused: which version
upcaster("typing.f", from_version="1")  # refused: no number
upcaster("typing.f", from_version=1, into=[5])  # refused: no event type
upcaster("typing.f", from_version=1, registry="shop")  # refused: no registry
UpcastEvent("typing.sold")  # refused: no body
UpcastEvent("typing.sold", [("cents", 5)])  # refused: no dict
eb.event("typing.g", formerly=5)  # refused: no name
eb.event("typing.g", oldest_version="1")  # refused: no number
eb.event("typing.g", registry=EventRegistry)  # refused: a class
EventDecoder(on_undecodable="skip")  # refused: no policy
EventDecoder(on_undecodable=print("x"))  # refused: no function
EventDecoder(shop)  # refused: by name only
event_types("typing.sold")  # refused: no class
eb.open("memory:", registry="shop")  # refused: no registry
with eb.open("memory:") as store:
    eb.Executor(store, on_undecodable="ignore")  # refused: no policy
    eb.Executor(store, registry=store)  # refused: no registry
