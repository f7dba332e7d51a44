"""Old events are read as events of today, and everything that prevents it is named.

The hazard: an event that was recorded years ago, which a program of today skips, reads
as something else, or can't read at all, found in production instead of at the start.
"""

from __future__ import annotations

import sys
import types
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import pydantic
import pytest

import eventbraid as eb
from eventbraid.event import (
    EventDecoder,
    EventRegistry,
    UpcastEvent,
    event_types,
    upcaster,
)

BIG = 2**200


class Money(eb.Int, ge=0): ...


def recorded(name: str, data: bytes, version: int = 1, **metadata) -> eb.RecordedEvent:
    if version != 1:
        metadata["v"] = str(version)
    return eb.RecordedEvent(
        stream="order-7",
        version=3,
        position=17,
        type=name,
        event_id=UUID(int=1),
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        data=data,
        metadata=metadata,
    )


@pytest.fixture
def registry() -> EventRegistry:
    return EventRegistry()


def decode(registry, *args, **metadata):
    return eb.decode_event(recorded(*args, **metadata), registry=registry)


def parts(registry, *args):
    found = EventDecoder(registry=registry).decode(recorded(*args))
    return [(one.event, one.part, one.version, one.position) for one in found]


# --- chains


def test_an_old_event_passes_through_all_upcasters_in_order(registry):
    @eb.event("sold", version=3, registry=registry)
    class Sold:
        cents: Money
        currency: str

    @upcaster("sold", from_version=2, registry=registry)
    def add_currency(body):
        return body | {"currency": "EUR"}

    @upcaster("sold", from_version=1, registry=registry)
    def count_cents(body):
        return {"cents": body["euros"] * 100}

    registry.seal()
    assert decode(registry, "sold", b'{"euros":3}') == Sold(Money(300), "EUR")
    assert decode(registry, "sold", b'{"cents":5}', 2) == Sold(Money(5), "EUR")
    body = b'{"cents":5,"currency":"USD"}'
    assert decode(registry, "sold", body, 3) == Sold(Money(5), "USD")
    assert type(decode(registry, "sold", b'{"euros":3}').cents) is Money


def test_new_fields_with_defaults_need_no_upcaster(registry):
    @eb.event("noted", registry=registry)
    class Noted:
        text: str
        tags: tuple[str, ...] = ()

    assert decode(registry, "noted", b'{"text":"a"}') == Noted("a")


def test_an_upcaster_gets_the_record_if_it_asks_for_it(registry):
    @eb.event("paid", version=2, registry=registry)
    class Paid:
        order: str
        at: datetime

    @upcaster("paid", from_version=1, registry=registry)
    def from_record(body, record):
        return {"order": record.stream, "at": record.recorded_at}

    assert decode(registry, "paid", b"{}") == Paid(
        "order-7", datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize("kind", ["struct", "model"])
def test_classes_of_other_libraries_read_upcast_events(registry, kind):
    register = eb.register_event("weighed", version=2, registry=registry)
    if kind == "struct":
        made = register(msgspec.defstruct("Weighed", [("grams", int)]))
    else:
        made = register(pydantic.create_model("Weighed", grams=(int, ...)))
    upcaster("weighed", from_version=1, registry=registry)(
        lambda body: {"grams": body["kilograms"] * 1000}
    )
    assert decode(registry, "weighed", b'{"kilograms":2}') == made(grams=2000)


def test_numbers_pass_through_an_upcaster_unchanged(registry):
    @eb.event("numbers", version=2, registry=registry)
    class Numbers:
        big: int
        exact: Decimal
        ratio: float

    @upcaster("numbers", from_version=1, registry=registry)
    def rename(body):
        return {"big": body["b"], "exact": body["e"], "ratio": body["r"]}

    body = b'{"b":%d,"e":"1.10","r":0.1}' % BIG
    assert decode(registry, "numbers", body) == Numbers(BIG, Decimal("1.10"), 0.1)


def test_an_event_written_as_an_array_is_upcast(registry):
    made = msgspec.defstruct("Pair", [("a", int), ("b", int)], array_like=True)
    eb.register_event("pair", version=2, registry=registry)(made)
    upcaster("pair", from_version=1, registry=registry)(lambda body: [*body, 5])
    assert decode(registry, "pair", b"[4]") == made(4, 5)


@pytest.mark.parametrize("has_codec", [True, False])
def test_a_body_that_a_codec_has_encoded_is_upcast(has_codec):
    """The upcaster gets the JSON, whether or not the current class has a codec."""

    class Zlib:
        id = "zlib"

        def encode(self, body, context):
            return zlib.compress(body)

        def decode(self, body, context):
            return zlib.decompress(body)

    old, new = EventRegistry(), EventRegistry()
    new.add_codec(Zlib())

    @eb.event("filed", registry=old, codec=Zlib())
    class Filed:
        text: str

    @eb.event(
        "archived",
        version=2,
        formerly="filed",
        registry=new,
        codec=Zlib() if has_codec else None,
    )
    class Archived:
        title: str

    @upcaster("filed", from_version=1, registry=new)
    def rename(body):
        return {"title": body["text"]}

    with eb.open("memory:", registry=new) as store:
        store.append([eb.new_event("s-1", Filed("a" * 99), registry=old)])
        store.append([eb.new_event("s-1", Archived("b" * 99), registry=new)])
        found = [eb.decode_event(one, registry=new) for one in store.read_stream("s-1")]
    assert found == [Archived("a" * 99), Archived("b" * 99)]


# --- renames


def test_a_renamed_type_reads_events_under_its_former_names(registry):
    @eb.event("ordered", formerly=["bought", "acquired"], registry=registry)
    class Ordered:
        number: int

    for name in ("ordered", "bought", "acquired"):
        assert decode(registry, name, b'{"number":1}') == Ordered(1)
    assert eb.encode_event(Ordered(1), registry=registry)[0] == "ordered"


@pytest.mark.parametrize("name", ["bought", "ordered"])
def test_an_upcaster_may_be_registered_under_either_name(registry, name):
    @upcaster(name, from_version=1, registry=registry)
    def rename(body):
        return {"number": body["no"]}

    @eb.event("ordered", version=2, formerly="bought", registry=registry)
    class Ordered:
        number: int

    registry.seal()
    assert decode(registry, "bought", b'{"no":1}') == Ordered(1)
    assert decode(registry, "ordered", b'{"no":1}') == Ordered(1)
    assert decode(registry, "bought", b'{"number":1}', 2) == Ordered(1)


def test_former_names_are_those_of_all_versions(registry):
    @eb.event("ordered", registry=registry)
    class First:
        number: int

    @eb.event("ordered", version=2, formerly="bought", registry=registry)
    class Second:
        number: int

    assert type(decode(registry, "bought", b'{"number":1}')) is First
    assert type(decode(registry, "bought", b'{"number":1}', 2)) is Second


def test_the_recorded_types_of_a_class_include_all_that_lead_to_it(registry):
    @eb.event("deposited", formerly="credited", version=2, registry=registry)
    class Deposited:
        amount: int

    upcaster("deposited", from_version=1, registry=registry)(lambda body: body)
    upcaster(
        "adjusted", from_version=2, into=[("credited", 1), "x"], registry=registry
    )(lambda body: ())
    upcaster("adjusted", from_version=1, registry=registry)(lambda body: body)
    upcaster("other", from_version=1, into=["x"], registry=registry)(lambda body: ())
    assert event_types(Deposited, registry=registry) == (
        "adjusted",
        "credited",
        "deposited",
    )
    assert event_types(registry=registry) == ()


# --- splitting, dropping, and changing the class


@pytest.fixture
def split(registry):
    @eb.event("deposited", version=2, registry=registry)
    class Deposited:
        amount: int
        currency: str

    @eb.event("withdrawn", registry=registry)
    class Withdrawn:
        amount: int

    @upcaster("deposited", from_version=1, registry=registry)
    def add_currency(body):
        return body | {"currency": "EUR"}

    @upcaster(
        "adjusted", from_version=1, into=["deposited", "withdrawn"], registry=registry
    )
    def split_up(body):
        for amount in body["by"]:
            kind = "deposited" if amount > 0 else "withdrawn"
            yield UpcastEvent(kind, {"amount": abs(amount)})

    registry.seal()
    return Deposited, Withdrawn


def test_one_event_becomes_several_at_the_same_place(registry, split):
    deposited, withdrawn = split
    assert parts(registry, "adjusted", b'{"by":[5,-3,1]}') == [
        (deposited(5, "EUR"), 1, 3, 17),
        (withdrawn(3), 2, 3, 17),
        (deposited(1, "EUR"), 3, 3, 17),
    ]


def test_one_event_becomes_an_event_of_another_class(registry, split):
    _, withdrawn = split
    assert decode(registry, "adjusted", b'{"by":[-3]}') == withdrawn(3)
    assert parts(registry, "adjusted", b'{"by":[-3]}') == [(withdrawn(3), 1, 3, 17)]


def test_an_event_is_dropped(registry, split):
    assert parts(registry, "adjusted", b'{"by":[]}') == []


@pytest.mark.parametrize("by", [b"[]", b"[1,2]"])
def test_decoding_to_one_event_refuses_what_isnt_one(registry, split, by):
    with pytest.raises(eb.errors.EventDecodeError, match="EventDecoder") as refused:
        decode(registry, "adjusted", b'{"by":%s}' % by)
    assert refused.value.position == 17


def test_the_parts_of_a_record_are_different(registry, split):
    decoder = EventDecoder(registry=registry)
    raw = recorded("adjusted", b'{"by":[5,5]}')
    one, other = decoder.decode(raw)
    assert one.event == other.event
    assert one != other
    assert [*decoder.decode(raw)] == [one, other]
    assert len({one, other}) == 2


# --- failures


def refusal(registry, *args) -> str:
    raw = recorded(*args)
    with pytest.raises(eb.errors.EventDecodeError) as refused:
        eb.decode_event(raw, registry=registry)
    error = refused.value
    assert (error.type, error.stream, error.position) == (raw.type, "order-7", 17)
    return error.reason


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda body: None, "returned None, expected a dict"),
        (lambda body: "text", "returned 'text', expected a dict"),
        (lambda body: body["missing"], "raised KeyError: 'missing'"),
        (lambda body: {"number": {1, 2}}, "after its upcasters: "),
        (lambda body: {"number": "one"}, "after its upcasters: "),
        (lambda body: {}, "after its upcasters: "),
    ],
    ids=["none", "text", "raises", "set", "wrong type", "missing"],
)
def test_a_failing_upcaster_is_named(registry, made, reason):
    @eb.event("counted", version=2, registry=registry)
    class Counted:
        number: int

    upcaster("counted", from_version=1, registry=registry)(made)
    found = refusal(registry, "counted", b"{}")
    assert reason in found
    if "upcasters" not in reason:
        assert "the upcaster tests.unit.test_upcasters" in found or "<lambda>" in found
        assert "'counted' version 1" in found


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda body: None, "return () to drop the event"),
        (lambda body: {"a": 1}, "expected an iterable of UpcastEvent"),
        (lambda body: "text", "expected an iterable of UpcastEvent"),
        (lambda body: [("counted", {})], "expected an UpcastEvent"),
        (lambda body: [UpcastEvent("other", {})], "add it to into="),
        (lambda body: [UpcastEvent("counted", {}, 2)], "add it to into="),
        (lambda body: [UpcastEvent("counted", None)], "expected a dict"),
        (lambda body: iter(lambda: UpcastEvent("counted", {}), None), "1,000 events"),
    ],
    ids=["none", "dict", "text", "pair", "type", "version", "body", "endless"],
)
def test_a_failing_split_is_named(registry, made, reason):
    @eb.event("counted", registry=registry)
    class Counted: ...

    upcaster("old", from_version=1, into=["counted"], registry=registry)(made)
    assert reason in refusal(registry, "old", b"{}")


def test_events_that_multiply_along_a_chain_are_bounded(registry):
    @eb.event("leaf", registry=registry)
    class Leaf: ...

    for number in range(12):
        target = f"level-{number - 1}" if number else "leaf"
        upcaster(f"level-{number}", from_version=1, into=[target], registry=registry)(
            lambda body, target=target: [UpcastEvent(target, {})] * 2
        )
    assert len(parts(registry, "level-8", b"{}")) == 512
    assert "more than 1,000 events" in refusal(registry, "level-11", b"{}")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a":1}\xff', b"[" * 200_000],
    ids=["empty", "half", "bytes", "deep"],
)
def test_a_body_that_isnt_json_is_refused(registry, body):
    upcaster("old", from_version=1, into=[], registry=registry)(lambda body: ())
    assert refusal(registry, "old", body)


def test_a_cycle_that_nobody_validated_ends(registry):
    upcaster("a", from_version=1, into=["b"], registry=registry)(
        lambda body: [UpcastEvent("b", body)]
    )
    upcaster("b", from_version=1, into=["a"], registry=registry)(
        lambda body: [UpcastEvent("a", body)]
    )
    assert "cycle" in refusal(registry, "a", b"{}")


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        (1, r"@upcaster\('sold', from_version=1\)"),
        (2, "reads version 3, 4"),
        (5, "a newer program wrote the event: update this one"),
    ],
)
def test_an_unknown_version_names_the_versions_that_are_readable(
    registry, version, remedy
):
    @eb.event("sold", version=4, registry=registry)
    class Sold: ...

    upcaster("sold", from_version=3, registry=registry)(lambda body: body)
    with pytest.raises(eb.errors.UnknownEventType, match=remedy) as unknown:
        decode(registry, "sold", b"{}", version)
    assert (unknown.value.version, unknown.value.readable) == (version, (3, 4))


def test_a_chain_that_ends_nowhere_names_the_version_that_nothing_reads(registry):
    upcaster("sold", from_version=1, registry=registry)(lambda body: body)
    with pytest.raises(eb.errors.UnknownEventType) as unknown:
        decode(registry, "sold", b"{}")
    assert (unknown.value.type, unknown.value.version) == ("sold", 2)


# --- notebooks


def test_an_event_and_its_upcaster_can_be_defined_again(registry, monkeypatch):
    notebook = types.ModuleType("notebook_of_upcasters")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    vars(notebook).update(eb=eb, registry=registry, upcaster=upcaster)
    exec(
        "@eb.event('kept', registry=registry)\nclass Kept:\n    x: int\n",
        vars(notebook),
    )
    generation = registry.generation
    cell = (
        "@eb.event('kept', version=2, registry=registry)\n"
        "class Kept:\n    y: int\n"
        "@upcaster('kept', from_version=1, registry=registry)\n"
        "def rename(body):\n    return {{'y': body['x'] + {0}}}\n"
    )
    for number in (1, 2):
        exec(cell.format(number), vars(notebook))
        registry.validate()
        assert decode(registry, "kept", b'{"x":1}') == notebook.Kept(1 + number)
        assert registry.generation > generation
        generation = registry.generation
