"""An event that does not decode stops no later read, and is not skipped.

The hazard: one event of a newer program, or one that was written by hand, which a
subscription never passes; or a reader that passes it by skipping it.
"""

from __future__ import annotations

import eventbraid as eb

COUNTED, UNKNOWN = "undecodable.counted", "undecodable.unknown"


@eb.event(COUNTED)
class Counted:
    number: int


EVENTS = [
    ("a", COUNTED, b'{"number":1}'),
    ("a", COUNTED, b'{"number":"many"}'),
    ("a", UNKNOWN, b'{"number":3}'),
    ("a", COUNTED, b"\xff"),
    ("a", COUNTED, b'{"number":5}'),
]


def read_on(recorded_events, last):
    """Decode what can be decoded; answer that, and the rest as it stands in the log."""
    numbers, parked, told = [], [], []
    for recorded in recorded_events:
        try:
            numbers.append(eb.decode_event(recorded).number)
        except (eb.errors.EventDecodeError, eb.errors.UnknownEventType) as error:
            parked.append((recorded.stream, recorded.type, recorded.data))
            told.append(error.position - recorded.position)
        if recorded.position == last:
            break
    assert not any(told), "each error names the event's own place"
    return numbers, parked


def test_a_read_goes_on_past_events_that_do_not_decode():
    with eb.open("memory:") as store:
        store.append(EVENTS)
        for events in (store.read_all(), store.read_stream("a")):
            assert read_on(events, 5) == ([1, 5], EVENTS[1:4])


def test_a_subscription_moves_past_events_that_do_not_decode():
    with eb.open("memory:") as store:
        store.append(EVENTS)
        with store.subscribe() as subscription:
            assert read_on(subscription, 5) == ([1, 5], EVENTS[1:4])
            assert subscription.position == 5
        # A subscription that continues after one of them does not get it again.
        with store.subscribe(after=2) as subscription:
            assert read_on(subscription, 5) == ([5], EVENTS[2:4])
