"""A measurement of the codec: decode and encode an event of an order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson

import eventbraid as eb
from eventbraid.cli.bench._orders import Address, Item, Money, OrderSubmitted, Quantity
from eventbraid.cli.bench._results import Contender, Rate, Target, alternate
from eventbraid.event import EventDecoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAIN = "orjson, without classes"

_EACH = 100
_ROUNDS = 15
# The ratio when the row was added was 0.17.
_MINIMUM_RATIO = 0.16


def measure_order_event(directory: Path, *, seconds: float = 10.0) -> Rate:
    """Measure decoding and encoding of an order with three lines.

    Args:
        directory: Not used: nothing is written.
        seconds: The maximum duration of the measurement, baseline included.

    Returns:
        Events per second of processor time, each decoded and encoded once, beside
        orjson, which makes and writes dictionaries of the same JSON.
    """
    del directory
    event = _order()
    with eb.open("memory:") as store:
        store.append([eb.new_event("order-1", event)])
        [recorded] = store.read_stream("order-1")
    data = recorded.data
    decode = EventDecoder().decode

    def ours() -> None:
        [typed] = decode(recorded)
        eb.new_event("order-1", typed.event)

    def plain() -> None:
        orjson.dumps(orjson.loads(data))

    rate = alternate(
        "decode and encode an order event",
        "events",
        _repeated(ours),
        [Contender(PLAIN, _repeated(plain))],
        seconds=seconds,
        rounds=_ROUNDS,
    )
    ratio = rate.against(PLAIN).ratio
    return rate.with_targets(
        Target(what="events", value=ratio, unit=f"x {PLAIN}", bound=_MINIMUM_RATIO)
    )


def _repeated(work: Callable[[], None]) -> Callable[[float], float]:
    """Return a contender's `work`, measured in the time of the processor.

    Nothing waits here, so what other programs do in the meantime doesn't count.
    """

    def for_seconds(seconds: float) -> float:
        count = 0
        end = time.perf_counter() + seconds
        start = time.thread_time()
        while time.perf_counter() < end or not count:
            for _ in range(_EACH):
                work()
            count += _EACH
        return count / (time.thread_time() - start)

    return for_seconds


def _order() -> OrderSubmitted:
    items = tuple(
        Item(f"product-{number:03}", Quantity(number), Money(1_499))
        for number in (1, 2, 3)
    )
    return OrderSubmitted(
        customer="customer-00001",
        items=items,
        total=Money(8_994),
        address=Address(
            name="Customer 1",
            street="1 Market Street",
            city="Philadelphia",
            postal_code="19103",
            country="US",
        ),
    )
