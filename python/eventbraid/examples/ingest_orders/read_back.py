"""Reads every customer's stream, and compares it with the purchases."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import eventbraid as eb

from ..order_fulfilment.purchases import Purchase
from .history import Purchased, stream_of

_MOST_FINDINGS = 5


@dataclass(frozen=True, slots=True)
class ReadBack:
    """The content of the streams.

    Attributes:
        streams: The number of streams.
        events: The number of purchases in them.
        cents: The total price of these.
        findings: The differences, a few of each kind; empty if there are none.
        seconds: The duration of reading.
    """

    streams: int
    events: int
    cents: int
    findings: list[str]
    seconds: float


def read_back(
    store: eb.EventStore,
    purchases: Sequence[Purchase],
    *,
    advance: Callable[[], None],
) -> ReadBack:
    """Read the streams of all customers and check counts and sum.

    Args:
        store: The store.
        purchases: The expected purchases.
        advance: Called after each stream.

    Raises:
        EventDecodeError: An event can't be decoded.
    """
    expected = Counter(stream_of(purchase.customer) for purchase in purchases)
    found: Counter[str] = Counter()
    cents = 0
    began = time.perf_counter()
    for stream in expected:
        paid = _paid(store, stream)
        found[stream] = len(paid)
        cents += sum(paid)
        advance()
    seconds = time.perf_counter() - began
    findings = [
        *_missing_or_doubled(expected, found),
        *_unexpected_streams(store, expected),
        *_wrong_sum(sum(purchase.cents for purchase in purchases), cents),
    ]
    return ReadBack(len(expected), found.total(), cents, findings, seconds)


def _paid(store: eb.EventStore, stream: str) -> list[int]:
    events = [eb.decode_event(recorded) for recorded in store.read_stream(stream)]
    return [int(event.paid) for event in events if isinstance(event, Purchased)]


def _missing_or_doubled(expected: Counter[str], found: Counter[str]) -> list[str]:
    wrong = [stream for stream in expected if expected[stream] != found[stream]]
    listed = [
        f"{stream} has {found[stream]} purchases, expected {expected[stream]}"
        for stream in wrong[:_MOST_FINDINGS]
    ]
    more = len(wrong) - len(listed)
    return [*listed, f"and {more:,} more streams"] if more else listed


def _unexpected_streams(store: eb.EventStore, expected: Counter[str]) -> list[str]:
    customers = sum(1 for _ in store.streams("customer-"))
    if customers == len(expected):
        return []
    return [f"{customers:,} customers have a stream, expected {len(expected):,}"]


def _wrong_sum(expected: int, found: int) -> list[str]:
    if expected == found:
        return []
    return [f"the purchases cost {found} cents together, expected {expected}"]
