"""An event that does not decode stops nobody who reads on, and is not lost on the way.

The hazard: one event of a newer program, or one that was written by hand, behind which a
subscription never comes; or a reader that goes past it by leaving it out.
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
        except (eb.EventDecodeError, eb.UnknownEventType) as error:
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
        # And whoever goes on behind one of them does not meet it again.
        with store.subscribe(after=2) as subscription:
            assert read_on(subscription, 5) == ([5], EVENTS[2:4])
