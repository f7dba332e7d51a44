"""The values that a store takes and gives: immutable, comparable, copied and pickled.

The hazard: a value that changes under its reader, or that looks the same and isn't.
"""

from __future__ import annotations

import copy
import datetime as dt
import pickle
import uuid
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

import eventbraid as eb
from eventbraid._native import EventId, traced_event

EVENT_ID = uuid.UUID("0190b2c4-0000-7000-8000-000000000001")
LONG_AGO = datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC)
NOON = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)


def new_event(**changes):
    facts = {
        "stream": "account-alice",
        "type": "account.opened",
        "data": b'{"by":"me"}',
        "metadata": {"b": "2", "a": "1"},
        "event_id": EVENT_ID,
        "original_time": LONG_AGO,
        **changes,
    }
    return eb.NewEvent(
        facts.pop("stream"), facts.pop("type"), facts.pop("data"), **facts
    )


def recorded_event(**changes):
    facts = {
        "stream": "account-alice",
        "version": 3,
        "position": 7,
        "type": "account.opened",
        "event_id": EVENT_ID,
        "recorded_at": NOON,
        "data": b"{}",
        "metadata": {
            "correlation_id": "request-1",
            "causation_id": "event-1",
            "by": "me",
        },
        "original_time": LONG_AGO,
        **changes,
    }
    return eb.RecordedEvent(**facts)


def appended(**changes):
    facts = {
        "first_position": 3,
        "last_position": 4,
        "versions": {"a": 1, "b": 2},
        "replayed": True,
        **changes,
    }
    return eb.Appended(**facts)


OTHERS = [
    *[
        (new_event, change)
        for change in (
            {"stream": "account-bob"},
            {"type": "account.closed"},
            {"data": b""},
            {"metadata": None},
            {"metadata": {"b": "2"}},
            {"event_id": None},
            {"original_time": None},
            {"original_time": NOON},
        )
    ],
    *[
        (recorded_event, change)
        for change in (
            {"stream": "account-bob"},
            {"version": 4},
            {"position": 8},
            {"type": "account.closed"},
            {"event_id": uuid.UUID(int=1)},
            {"recorded_at": NOON + timedelta(microseconds=1)},
            {"data": b""},
            {"metadata": {}},
            {"original_time": None},
        )
    ],
    *[
        (appended, change)
        for change in (
            {"first_position": None},
            {"last_position": 9},
            {"versions": {"a": 1}},
            {"replayed": False},
        )
    ],
]

MAKERS = [new_event, recorded_event, appended]


@pytest.mark.parametrize("make", MAKERS)
def test_equal_facts_make_equal_values(make):
    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != "something else"


@pytest.mark.parametrize(("make", "change"), OTHERS)
def test_each_fact_tells_values_apart(make, change):
    assert make() != make(**change)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_values_survive_pickling(make, protocol):
    assert pickle.loads(pickle.dumps(make(), protocol)) == make()


@pytest.mark.parametrize("make", MAKERS)
def test_values_survive_copying(make):
    assert copy.copy(make()) == copy.deepcopy(make()) == make()


@pytest.mark.parametrize("make", MAKERS)
def test_values_can_not_be_changed(make):
    value = make()
    with pytest.raises(AttributeError):
        value.stream = "other"
    with pytest.raises(AttributeError):
        value.something = 1


@pytest.mark.parametrize("make", MAKERS)
def test_values_belong_to_the_package(make):
    kind = type(make())
    assert kind.__module__ == "eventbraid"
    assert getattr(eb, kind.__name__) is kind


def test_a_new_event_shows_its_facts():
    event = new_event()
    assert (event.stream, event.type, event.data) == (
        "account-alice",
        "account.opened",
        b'{"by":"me"}',
    )
    assert dict(event.metadata) == {"a": "1", "b": "2"}
    assert event.event_id == EVENT_ID
    assert event.original_time == LONG_AGO
    names = {"NewEvent": eb.NewEvent, "UUID": uuid.UUID, "datetime": dt}
    assert eval(repr(event), names) == event
    bare = eb.NewEvent("a", "x", b"")
    assert (dict(bare.metadata), bare.event_id) == ({}, None)
    assert bare.original_time is None
    assert repr(bare) == "NewEvent('a', 'x', b'')"


BERLIN = timezone(timedelta(hours=2))


class Precise(datetime):
    """A time of a class that prints more than microseconds, like those of pandas."""

    def isoformat(self, *arguments):
        return super().isoformat(*arguments) + "000"


@pytest.mark.parametrize(
    "given",
    [
        datetime(1997, 8, 2, 14, tzinfo=BERLIN),
        Precise(1997, 8, 2, 12, tzinfo=UTC),
        datetime(1997, 8, 2, 12, tzinfo=ZoneInfo("Atlantic/Reykjavik")),
    ],
    ids=["offset", "subclass", "zone"],
)
def test_an_original_time_is_the_same_instant_in_utc(given):
    for event in (
        eb.NewEvent("a", "x", b"", original_time=given),
        recorded_event(original_time=given),
    ):
        assert event.original_time == datetime(1997, 8, 2, 12, tzinfo=UTC)
        assert event.original_time.tzinfo is UTC
        assert type(event.original_time) is datetime


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (
            datetime(1997, 8, 2),  # noqa: DTZ001
            eb.errors.InvalidArgument,
            "original time.*no time zone",
        ),
        (datetime.min.replace(tzinfo=BERLIN), eb.errors.InvalidArgument, "1 to 9999"),
        ("1997-08-02", TypeError, "original time must be a datetime, not str"),
        (0, TypeError, "original time must be a datetime, not int"),
    ],
    ids=["naive", "before the year 1", "text", "number"],
)
def test_what_is_no_time_is_refused(given, error, match):
    for make in (new_event, recorded_event):
        with pytest.raises(error, match=match):
            make(original_time=given)


def test_an_original_time_is_no_metadata_and_metadata_is_no_original_time():
    """A caller's key of this name is a key like any other."""
    facts = {"original_time": "long ago", "\x1e": "\x1e"}
    for make in (new_event, recorded_event):
        for time in (LONG_AGO, None):
            event = make(metadata=facts, original_time=time)
            assert event.metadata == facts
            assert event.original_time == time


def test_a_new_event_keeps_what_mutable_bytes_were():
    body = bytearray(b"before")
    event = eb.NewEvent("a", "x", body)
    body[:] = b"behind"
    assert event.data == b"before"
    assert eb.NewEvent("a", "x", memoryview(b"abcd")[::2]).data == b"ac"


def test_a_new_event_keeps_plain_strings():
    class Name(str):
        __slots__ = ()

        def __eq__(self, other):
            raise AssertionError

        __hash__ = None

    event = eb.NewEvent(Name("account-alice"), Name("x"), b"")
    assert type(event.stream) is str
    assert event == eb.NewEvent("account-alice", "x", b"")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((1, "x", b""), {}),
        (("a", None, b""), {}),
        (("a", "x", "text"), {}),
        (("a", "x", [1, 2]), {}),
        (("a", "x", 3), {}),
        (("a", "x", b""), {"metadata": "text"}),
        (("a", "x", b""), {"metadata": {"k": 1}}),
        (("a", "x", b""), {"metadata": {1: "v"}}),
        (("a", "x", b""), {"metadata": [("k", "v")]}),
        (("a", "x", b""), {"event_id": str(EVENT_ID)}),
        (("a", "x", b""), {"event_id": EVENT_ID.bytes}),
        (("a", "x"), {}),
    ],
)
def test_a_new_event_refuses_other_types(arguments, options):
    with pytest.raises(TypeError):
        eb.NewEvent(*arguments, **options)


def test_text_without_utf8_is_refused_by_name():
    with pytest.raises(eb.errors.InvalidStreamId):
        eb.NewEvent("a\ud800", "x", b"")
    with pytest.raises(eb.errors.InvalidEventType):
        eb.NewEvent("a", "x\ud800", b"")
    with pytest.raises(eb.errors.InvalidArgument, match="metadata"):
        eb.NewEvent("a", "x", b"", metadata={"k": "\ud800"})


@pytest.mark.parametrize("version", [1, 9, 10, 4_294_967_295])
@pytest.mark.parametrize(
    ("correlation", "causation"),
    [("saga-1", str(EVENT_ID)), ("", ""), ('"\\\n\x00', "\x7f\u20ac\U0001f600")],
)
def test_a_traced_event_has_the_metadata_of_the_same_mapping(
    correlation, causation, version
):
    traced = traced_event("a", "x", b"{}", correlation, causation, version, EVENT_ID)
    metadata = {
        "correlation_id": correlation,
        "causation_id": causation,
        "v": str(version),
    }
    same = eb.NewEvent("a", "x", b"{}", metadata=metadata, event_id=EVENT_ID)
    assert (traced, dict(traced.metadata)) == (same, metadata)


@pytest.mark.parametrize("place", [0, 1, 3, 4])
def test_a_traced_event_refuses_text_without_utf8(place):
    arguments = ["a", "x", b"", "c", "c", 1]
    arguments[place] = "\ud800"
    with pytest.raises(eb.errors.InvalidArgument, match="lone surrogate"):
        traced_event(*arguments)


def test_the_text_of_an_event_id_is_that_of_its_uuid():
    for _ in range(1_000):
        event_id = EventId()
        event = eb.NewEvent("a", "x", b"", event_id=event_id)
        assert str(event_id) == str(event.event_id)


def test_event_ids_are_ascending_version_7_uuids():
    texts = [str(EventId()) for _ in range(1_000)]
    ids = [uuid.UUID(text) for text in texts]
    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert sorted(set(texts)) == texts


def test_event_ids_and_uuids_have_one_order():
    ids = [uuid.UUID(str(EventId())) if n % 2 else eb.store.uuid7() for n in range(100)]
    assert sorted(set(ids)) == ids


def test_an_event_is_recorded_under_its_event_id():
    """A record names its cause by this text before the cause is in the log."""
    first, second = EventId(), EventId()
    with eb.open("memory:") as store:
        store.append(
            [
                eb.NewEvent("a-1", "x", b"", event_id=first),
                traced_event("a-1", "x", b"{}", "a-1", str(first), 1, second),
            ]
        )
        recorded = list(store.read_all())
    assert [str(one.event_id) for one in recorded] == [str(first), str(second)]
    assert recorded[1].causation_id == str(recorded[0].event_id)


def test_an_event_id_cannot_be_chosen_or_changed():
    with pytest.raises(TypeError):
        EventId(str(EVENT_ID))
    with pytest.raises(AttributeError):
        EventId().text = "1"


@pytest.mark.parametrize("other", [str(EVENT_ID), EVENT_ID.bytes, EVENT_ID.int])
def test_an_event_refuses_an_id_of_another_type(other):
    with pytest.raises(TypeError, match=r"event_id must be a uuid\.UUID, not "):
        eb.NewEvent("a-1", "x", b"", event_id=other)
    with pytest.raises(TypeError, match=r"event_id must be a uuid\.UUID, not "):
        traced_event("a-1", "x", b"", "c", "c", 1, other)


def test_a_recorded_event_shows_its_facts():
    event = recorded_event()
    assert (event.stream, event.version, event.position) == ("account-alice", 3, 7)
    assert (event.type, event.event_id, event.data) == (
        "account.opened",
        EVENT_ID,
        b"{}",
    )
    assert event.recorded_at == NOON
    assert event.recorded_at.tzinfo is UTC
    assert (event.correlation_id, event.causation_id) == ("request-1", "event-1")
    assert event.metadata["by"] == "me"
    assert "account.opened" in repr(event)
    assert "7" in repr(event)
    bare = recorded_event(metadata=None)
    assert (bare.correlation_id, bare.causation_id, dict(bare.metadata)) == (
        None,
        None,
        {},
    )


def test_the_repr_of_a_recorded_event_has_its_data():
    with eb.open("memory:") as store:
        store.append([("a-1", "x", b'{"by":"mia"}'), ("a-1", "x", b"\x1b" * 200)])
        short, long = store.read_all()
    assert repr(short).endswith(""", data b'{"by":"mia"}'>""")
    assert repr(long).endswith("... (200 bytes)>")
    assert len(repr(long)) < 500
    assert repr(long).isprintable()


def test_a_recorded_event_keeps_the_moment_whatever_the_time_zone():
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-8)))
    assert recorded_event(recorded_at=elsewhere) == recorded_event()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"version": -1}, eb.errors.InvalidArgument),
        ({"position": 2**64}, eb.errors.InvalidArgument),
        ({"version": "1"}, TypeError),
        ({"recorded_at": NOON.replace(year=1969)}, eb.errors.InvalidArgument),
        ({"recorded_at": NOON.replace(tzinfo=None)}, eb.errors.InvalidArgument),
        ({"recorded_at": "now"}, TypeError),
    ],
)
def test_a_recorded_event_refuses_facts_that_no_log_could_have(change, kind):
    with pytest.raises(kind):
        recorded_event(**change)


@pytest.mark.parametrize("mapping", ["metadata", "versions"])
def test_mappings_can_only_be_read(mapping):
    value = appended() if mapping == "versions" else new_event()
    with pytest.raises(TypeError):
        getattr(value, mapping)["k"] = "v"


def test_an_appended_shows_its_facts():
    done = appended()
    assert (done.first_position, done.last_position, done.replayed) == (3, 4, True)
    assert done.versions == {"a": 1, "b": 2}
    assert eval(repr(done), {"Appended": eb.Appended}) == done
    assert repr(eb.Appended(None, None, {}, replayed=False)) == (
        "Appended(first_position=None, last_position=None, versions={}, replayed=False)"
    )


def test_conditions_have_the_names_under_which_they_are_exported():
    assert [repr(member) for member in eb.errors.StreamCondition] == [
        "ANY",
        "NO_STREAM",
        "EXISTS",
    ]
    assert pickle.loads(pickle.dumps(eb.ANY)) is copy.copy(eb.ANY) is eb.ANY


def test_uuid7_ascends_and_says_when():
    before = int(datetime.now(UTC).timestamp() * 1000)
    made = [eb.store.uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}
    assert before <= made[0].int >> 80 <= before + 60_000
