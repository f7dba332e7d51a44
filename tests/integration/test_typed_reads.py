"""Reads and subscriptions by kinds of streams give the events of the kind, decoded.

The hazards: an event that a filter by types leaves out although no policy has been
asked; an event of another kind with the type of this one; and the second event of a
split record, which is lost when a program continues at the position of the first.
"""

from __future__ import annotations

import sys
import threading

import pytest

import eventbraid as eb
from eventbraid.errors import EventDecodeError, InvalidArgument, UnknownEventType
from eventbraid.event import EventRegistry, UndecodedEvent, UpcastEvent, upcaster

REGISTRY = EventRegistry()


@eb.event("reads.filled", registry=REGISTRY)
class Filled:
    amount: int


@eb.event("reads.emptied", formerly="reads.drained", registry=REGISTRY)
class Emptied:
    amount: int


@eb.event("reads.foreign", registry=REGISTRY)
class Foreign: ...


@upcaster(
    "reads.adjusted",
    from_version=1,
    into=["reads.filled", "reads.emptied"],
    registry=REGISTRY,
)
def split(body):
    yield UpcastEvent("reads.filled", {"amount": body["up"]})
    yield UpcastEvent("reads.emptied", {"amount": body["down"]})


@upcaster(
    "reads.merged",
    from_version=1,
    into=["reads.filled", "reads.foreign"],
    registry=REGISTRY,
)
def split_into_a_foreign_event(body):
    yield UpcastEvent("reads.filled", {"amount": 1})
    yield UpcastEvent("reads.foreign", {})


@upcaster("reads.viewed", from_version=1, into=(), registry=REGISTRY)
def drop(body):
    return ()


class Purse(eb.Stream[Filled | Emptied], category="purse"): ...


class AnyEvents(eb.Stream, category="purse"):
    """A kind whose events are unknown at run time."""


ADJUSTED = ("reads.adjusted", b'{"up": 3, "down": 2}')


@pytest.fixture
def store():
    with eb.open("memory:", registry=REGISTRY) as opened:
        yield opened


class Reads:
    """The typed reads of one face of a store, as lists."""

    def __init__(self, store, portal=None):
        self.store = store
        self.portal = portal

    def read(self, method, *arguments, **options):
        if self.portal is None:
            return list(getattr(self.store, method)(*arguments, **options))

        async def gather():
            read = getattr(self.store.as_async(), method)(*arguments, **options)
            return [one async for one in read]

        return self.portal.call(gather)

    def subscription(self, *arguments, **options):
        if self.portal is None:
            return self.store.subscribe(*arguments, **options)
        return Awaited(self.store, self.portal, arguments, options)


class Awaited:
    """An asynchronous subscription that is read from a thread without a loop."""

    def __init__(self, store, portal, arguments, options):
        self._portal = portal
        self._inner = store.as_async().subscribe(*arguments, **options)

    def __iter__(self):
        return self

    def __next__(self):
        async def following():
            return await anext(self._inner, None)

        found = self._portal.call(following)
        if found is None:
            raise StopIteration
        return found

    @property
    def position(self):
        return self._inner.position

    def close(self):
        self._inner.close()


@pytest.fixture(params=["sync", "asyncio", "trio"])
def reads(request, store):
    if request.param == "sync":
        yield Reads(store)
        return
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal(request.param) as portal:
        yield Reads(store, portal)


def new(stream, event):
    return eb.new_event(stream, event, registry=REGISTRY)


def events(recorded):
    return [one.event for one in recorded]


def test_a_typed_stream_is_read_as_the_events_of_its_kind(store, reads):
    purse = Purse("purse-1")
    store.append([new(purse, Filled(5)), (purse.id, "reads.drained", b'{"amount": 1}')])
    store.append([("purse-2", "unknown", b""), new(purse, Emptied(2))])
    found = reads.read("read_stream", purse)
    assert events(found) == [Filled(5), Emptied(1), Emptied(2)]
    assert [(one.version, one.position) for one in found] == [(1, 1), (2, 2), (3, 4)]
    assert events(reads.read("read_stream", purse, after=1, before=3)) == [Emptied(1)]
    assert events(reads.read("read_all", purse, after=2)) == [Emptied(2)]
    assert reads.read("read_stream", Purse("purse-9")) == []
    # The same read of the id is raw.
    assert [one.data for one in reads.read("read_stream", purse.id, limit=1)] == [
        b'{"amount":5}'
    ]


def test_split_and_dropped_records_count_as_one_record(store, reads):
    purse = Purse("purse-1")
    store.append([new(purse, Filled(5)), (purse.id, *ADJUSTED)])
    store.append([(purse.id, "reads.viewed", b"{}"), new(purse, Emptied(1))])
    forward = [Filled(5), Filled(3), Emptied(2), Emptied(1)]
    assert events(reads.read("read_stream", purse)) == forward
    backward = reads.read("read_stream", purse, backward=True)
    assert events(backward) == forward[::-1]
    assert [(one.version, one.part) for one in backward] == [
        (4, 1),
        (2, 2),
        (2, 1),
        (1, 1),
    ]
    assert events(reads.read("read_all", Purse, limit=2)) == forward[:3]
    assert events(reads.read("read_all", Purse, limit=2, backward=True)) == forward[3:]


def test_no_event_of_the_category_is_skipped_silently(store, reads):
    store.append(
        [
            ("purse-1", "reads.unknown", b"{}"),
            ("purse-1", "reads.filled", b'{"amount": "many"}'),
            new("purse-2", Foreign()),
            ("purse-2", "reads.merged", b"{}"),
            ("other-1", "reads.unknown", b"{}"),
            new("purse-2", Filled(1)),
        ]
    )
    for after, error in enumerate(
        [UnknownEventType, EventDecodeError, EventDecodeError, EventDecodeError]
    ):
        with pytest.raises(error) as raised:
            reads.read("read_all", Purse, after=after)
        assert raised.value.position == after + 1
    with pytest.raises(EventDecodeError, match="Foreign is not one of the events of P"):
        reads.read("read_all", Purse, after=2)

    raw = reads.read("read_all", Purse, on_undecodable="raw")
    assert [one.position for one in raw] == [1, 2, 3, 4, 6]
    assert [type(one.event) for one in raw] == [UndecodedEvent] * 4 + [Filled]

    aside = []
    read = reads.read("read_all", Purse, on_undecodable=aside.append)
    assert events(read) == [Filled(1)]
    assert [one.raw.position for one in aside] == [1, 2, 3, 4]
    # A kind of any events has no foreign ones.
    read = reads.read("read_all", AnyEvents, after=2, limit=1)
    assert events(read) == [Foreign()]
    # Types that the caller leaves out are the caller's decision.
    read = reads.read("read_all", Purse, after=2, types=["reads.filled"])
    assert events(read) == [Filled(1)]


def test_a_subscription_by_kind_continues_with_new_events(store, reads):
    store.append([new("purse-1", Filled(1)), ("other-1", "unknown", b"")])
    subscription = reads.subscription(Purse)
    assert next(subscription).event == Filled(1)
    store.append([("purse-1", "reads.viewed", b"{}"), new("purse-2", Emptied(1))])
    assert next(subscription).stream == "purse-2"
    assert subscription.position == 4
    one = reads.subscription(Purse("purse-2"))
    assert next(one).event == Emptied(1)
    for each in (subscription, one):
        each.close()
        assert list(each) == []


def test_the_position_passes_a_record_with_its_last_event(store, reads):
    store.append([new("purse-1", Filled(1)), ("purse-1", *ADJUSTED)])
    first = reads.subscription(Purse, after=1)
    assert next(first).event == Filled(3)
    assert first.position == 1
    first.close()
    # The program was stopped here: it continues without a loss.
    assert list(first) == []
    second = reads.subscription(Purse, after=first.position)
    assert [next(second).part, next(second).part] == [1, 2]
    assert second.position == 2


def test_the_position_remains_before_an_event_that_raised(store, reads):
    store.append([("purse-1", "unknown", b"{}"), new("purse-1", Filled(2))])
    subscription = reads.subscription(Purse)
    with pytest.raises(UnknownEventType):
        next(subscription)
    assert subscription.position == 0
    assert next(subscription).event == Filled(2)
    assert subscription.position == 2


@pytest.mark.timeout(60)
def test_threads_of_one_subscription_get_each_event_of_split_records_once(store):
    count = 500
    store.append([("purse-1", *ADJUSTED)] * count)
    subscription = store.subscribe(Purse)
    found = []

    def follow():
        for recorded in subscription:
            found.append((recorded.position, recorded.part))
            if len(found) == 2 * count:
                subscription.close()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=follow) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(found) == [(n, p) for n in range(1, count + 1) for p in (1, 2)]
    assert subscription.position == count


@pytest.mark.parametrize(
    ("method", "arguments", "options", "error", "message"),
    [
        ("read_stream", (Purse,), {}, TypeError, r"read_all\(Purse\)"),
        ("read_stream", (5,), {}, TypeError, "must be a str, not int"),
        (
            "read_stream",
            (Purse("purse-1"),),
            {"on_undecodable": "skip"},
            InvalidArgument,
            "skip",
        ),
        (
            "read_stream",
            ("purse-1",),
            {"on_undecodable": "raw"},
            InvalidArgument,
            "typed",
        ),
        ("read_all", (), {"on_undecodable": "raw"}, InvalidArgument, "typed"),
        (
            "read_all",
            ("purse",),
            {},
            TypeError,
            "kind of stream.*not 'purse'.*category=",
        ),
        ("read_all", (Filled,), {}, TypeError, "not Filled"),
        ("read_all", (eb.Stream,), {}, TypeError, "no category"),
        ("read_all", (Purse,), {"category": "x"}, InvalidArgument, "Purse determines"),
        ("read_all", (Purse,), {"system": True}, InvalidArgument, "Purse determines"),
        (
            "subscribe",
            (Purse("purse-1"),),
            {"prefix": "p"},
            InvalidArgument,
            "'purse-1'",
        ),
        (
            "subscribe",
            (Purse,),
            {"stream": "purse-1"},
            InvalidArgument,
            "Purse determines",
        ),
        ("subscribe", (), {"on_undecodable": print}, InvalidArgument, "typed"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(
    store, method, arguments, options, error, message
):
    for face in (store, store.as_async()):
        with pytest.raises(error, match=message):
            getattr(face, method)(*arguments, **options)


def test_a_new_event_of_a_typed_stream_must_be_one_of_its_kind():
    assert new(Purse("purse-1"), Filled(1)).stream == "purse-1"
    with pytest.raises(InvalidArgument, match="Foreign is not one of its events"):
        new(Purse("purse-1"), Foreign())
    assert new(AnyEvents("purse-1"), Foreign()).type == "reads.foreign"


def calls_of(function):
    calls = []

    def count(frame, event, argument):
        if event in {"call", "c_call"}:
            calls.append(event)

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return len(calls)


def test_a_typed_read_decodes_with_a_bounded_number_of_calls(store):
    """The cost of a typed event is that of decoding it, and a few calls more."""
    purse = Purse("purse-1")
    store.append([new(purse, Filled(1))] * 1000)
    raw = calls_of(lambda: list(store.read_stream(purse.id)))
    typed = calls_of(lambda: list(store.read_stream(purse)))
    # A resumed generator is a call, too.
    assert raw < 1.1 * 1000
    assert typed - raw < 13.5 * 1000
