"""Events go to bytes and come back as they were, or there is an error that says why."""

from __future__ import annotations

import dataclasses
import enum
import functools
import pickle
import sys
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

import eventbraid as eb
from eventbraid.event import EventRegistry


class Money(eb.Int, ge=0): ...


class Huge(eb.Int, ge=0, le=2**200): ...


class OrderId(eb.Id, prefix="order"): ...


class CountryCode(eb.Text, pattern="[A-Z]{2}"): ...


@eb.value_object
class Line:
    product: str
    price: Money


@dataclasses.dataclass(frozen=True)
class Address:
    street: str
    country: CountryCode


@eb.event("test_event.submitted")
class Submitted:
    order: OrderId
    lines: tuple[Line, ...]
    total: Money
    address: Address
    note: str | None = None


@eb.event("test_event.moved", version=2, oldest_version=2)
class Moved:
    order: OrderId


@eb.event("test_event.empty")
class Empty: ...


@eb.event("test_event.odd")
class Odd:
    at: datetime
    id: UUID
    data: bytes
    huge: Huge
    names: frozenset[str]


@eb.event("test_event.sized")
class Sized:
    text: str

    @functools.cached_property
    def length(self) -> int:
        return len(self.text)


@eb.event("test_event.underscored")
class Underscored:
    _hidden: int


@eb.register_event("test_event.struct")
class StructEvent(msgspec.Struct, frozen=True):
    order: OrderId
    total: Money


@eb.register_event("test_event.pydantic")
class ModelEvent(pydantic.BaseModel):
    order: OrderId
    total: Money
    country: CountryCode = CountryCode("DE")


@eb.register_event("test_event.attrs")
@attrs.frozen
class AttrsEvent:
    order: OrderId
    total: Money


@eb.register_event("test_event.dataclass")
@dataclasses.dataclass
class PlainEvent:
    order: OrderId
    total: Money


ORDER = OrderId("order-1")
SUBMITTED = Submitted(
    ORDER,
    (Line("a", Money(3)), Line("ä\u2028", Money(4))),
    Money(7),
    Address("Main Street", CountryCode("DE")),
)
EVENTS = [
    SUBMITTED,
    Moved(ORDER),
    Empty(),
    Odd(
        datetime(2026, 1, 1, 12, 30, 0, 5, tzinfo=UTC),
        UUID(int=5),
        b"\x00\xff",
        Huge(2**150),
        frozenset({"a"}),
    ),
    Underscored(5),
    StructEvent(ORDER, Money(5)),
    ModelEvent(order=ORDER, total=Money(5)),
    AttrsEvent(ORDER, Money(5)),
    PlainEvent(ORDER, Money(5)),
]


def recorded(name: str, data: bytes, **metadata: str) -> eb.RecordedEvent:
    return eb.RecordedEvent(
        stream="order-1",
        version=3,
        position=17,
        type=name,
        event_id=UUID(int=1),
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        data=data,
        metadata=metadata,
    )


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was(event):
    new = eb.new_event("order-1", event)
    again = eb.decode_event(recorded(new.type, new.data, **new.metadata))
    assert again == event
    assert type(again) is type(event)


def test_a_schema_version_is_appended_with_the_event():
    event = Moved(ORDER)
    with eb.open("memory:") as store:
        store.append([eb.new_event(ORDER, event, metadata={"by": "me"})])
        [found] = store.read_stream(ORDER)
    assert eb.decode_event(found) == event
    assert dict(found.metadata) == {"by": "me", "v": "2"}


@pytest.mark.parametrize(
    "new",
    [
        lambda body: (ORDER, *body),
        lambda body: eb.NewEvent(ORDER, *body),
        lambda body: eb.NewEvent(ORDER, *body, metadata={"by": "me"}),
        lambda body: eb.NewEvent(ORDER, *body, metadata={"v": "2"}),
        lambda body: eb.NewEvent(ORDER, *pickle.loads(pickle.dumps(body))),
        lambda body: pickle.loads(pickle.dumps(eb.NewEvent(ORDER, *body))),
    ],
    ids=["tuple", "event", "with metadata", "with version", "pickled", "event pickled"],
)
def test_type_and_body_carry_the_schema_version(new):
    event = Moved(ORDER)
    body = eb.encode_event(event)
    assert body == ("test_event.moved", b'{"order":"order-1"}')
    with eb.open("memory:") as store:
        store.append([new(body)])
        [found] = store.read_stream(ORDER)
    assert eb.decode_event(found) == event
    assert found.metadata["v"] == "2"


def test_the_library_itself_builds_typed_events_by_new_event_alone():
    """A pair of type and body has no place for the schema version."""
    package = Path(eb.__file__).parent
    callers = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if "encode_event(" in file.read_text(encoding="utf-8")
    }
    assert callers == {"event/_transcribe.py"}


@pytest.mark.anyio
async def test_typed_events_are_appended_with_metadata_and_ids_to_both_faces():
    event_id = eb.store.uuid7()
    new = eb.new_event(ORDER, Moved(ORDER), metadata={"by": "me"}, event_id=event_id)
    async with eb.open_async("memory:") as store:
        await store.append([new], expect={ORDER: eb.NO_STREAM})
        [found] = store.as_sync().read_stream(ORDER)
    assert (eb.decode_event(found), found.event_id) == (Moved(ORDER), event_id)
    assert dict(found.metadata) == {"by": "me", "v": "2"}
    with eb.open("memory:") as again:
        assert again.append([new, eb.new_event(ORDER, SUBMITTED)]).last_position == 2
        assert [eb.decode_event(one) for one in again.read_all()] == [
            Moved(ORDER),
            SUBMITTED,
        ]


def test_an_event_that_is_appended_has_plain_bytes():
    assert type(eb.NewEvent(ORDER, *eb.encode_event(Moved(ORDER))).data) is bytes


def test_the_fields_of_an_event_come_back_in_their_own_types():
    again = eb.decode_event(recorded(*eb.encode_event(SUBMITTED)))
    kinds = [again.order, again.total, again.lines[0].price, again.address.country]
    assert [type(one) for one in kinds] == [OrderId, Money, Money, CountryCode]


def test_the_body_is_plain_json():
    assert eb.encode_event(Submitted(ORDER, (), Money(7), SUBMITTED.address)) == (
        "test_event.submitted",
        (
            b'{"order":"order-1","lines":[],"total":7,'
            b'"address":{"street":"Main Street","country":"DE"},"note":null}'
        ),
    )


def test_what_a_cached_property_left_behind_is_not_stored():
    event = Sized("abc")
    before = eb.encode_event(event)
    assert event.length == 3
    assert eb.encode_event(event) == before


def test_an_event_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SUBMITTED.total = Money(0)


def test_an_illegal_event_is_not_made():
    with pytest.raises(eb.InvalidValue, match=r"Submitted.total.*write Money\(7\)"):
        dataclasses.replace(SUBMITTED, total=7)
    with pytest.raises(eb.InvalidValue, match=r"Submitted.address"):
        dataclasses.replace(SUBMITTED, address=Address("x", "DE"))


@pytest.mark.parametrize(
    "event",
    [
        StructEvent(ORDER, 5),
        AttrsEvent("order-1", Money(5)),
        PlainEvent(ORDER, 5),
        ModelEvent.model_construct(order="no order", total=Money(5)),
        ModelEvent.model_construct(order=ORDER, total=-5),
    ],
    ids=lambda event: type(event).__name__ + event.order,
)
def test_an_illegal_event_that_its_class_let_pass_is_not_stored(event):
    with pytest.raises((eb.InvalidValue, eb.errors.InvalidArgument)):
        eb.encode_event(event)


def test_a_pydantic_model_makes_values_of_plain_ones():
    assert ModelEvent(order="order-1", total=5) == ModelEvent(
        order=ORDER, total=Money(5)
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"order":"order-1"}',
        b'{"order":"order-1","total":-1}',
        b'{"order":"order-1","total":"1"}',
        b'{"order":"order-1","total":1.5}',
        b'{"order":"order-1","total":true}',
        b'{"order":"payment-1","total":1}',
        b'{"order":null,"total":1}',
        b'{"order":"order-1","total":1}\xff',
    ],
)
@pytest.mark.parametrize("kind", ["struct", "pydantic", "attrs", "dataclass"])
def test_a_body_that_is_not_what_the_class_demands_is_an_error(kind, body):
    with pytest.raises(eb.errors.EventDecodeError) as refused:
        eb.decode_event(recorded(f"test_event.{kind}", body))
    error = refused.value
    assert (error.type, error.stream, error.position) == (
        f"test_event.{kind}",
        "order-1",
        17,
    )
    assert error.reason


def test_the_checks_of_an_event_run_when_it_is_decoded():
    body = eb.encode_event(SUBMITTED)[1].replace(b'"total":7', b'"total":-7')
    with pytest.raises(eb.errors.EventDecodeError, match="Money"):
        eb.decode_event(recorded("test_event.submitted", body))


def test_fields_that_later_programs_added_are_passed_over():
    body = b'{"order":"order-1","total":5,"later":true}'
    assert eb.decode_event(recorded("test_event.struct", body)) == StructEvent(
        ORDER, Money(5)
    )


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("test_event.nobody", {}),
        ("test_event.empty", {"v": "2"}),
        ("test_event.moved", {}),
    ],
)
def test_an_unknown_type_or_version_is_an_error_that_says_where(name, metadata):
    with pytest.raises(eb.errors.UnknownEventType) as refused:
        eb.decode_event(recorded(name, b"{}", **metadata))
    error = refused.value
    assert (error.type, error.stream, error.position) == (name, "order-1", 17)
    assert error.version == int(metadata.get("v", 1))


@pytest.mark.parametrize("version", ["", "two", "-1", "1.0"])
def test_a_schema_version_that_is_no_number_is_an_error(version):
    with pytest.raises(eb.errors.EventDecodeError, match="schema version"):
        eb.decode_event(recorded("test_event.empty", b"{}", v=version))


def test_an_event_of_an_unregistered_class_is_refused_with_the_remedy():
    class Stranger: ...

    with pytest.raises(eb.errors.InvalidArgument, match=r"Stranger.*@event"):
        eb.encode_event(Stranger())


def test_an_event_with_a_text_that_is_no_unicode_is_refused():
    with pytest.raises(eb.errors.InvalidArgument, match=r"Line|surrogate"):
        eb.encode_event(dataclasses.replace(SUBMITTED, note="\ud800"))


def test_a_heir_of_an_event_is_no_event_until_it_is_registered():
    class Special(Empty): ...

    with pytest.raises(eb.errors.InvalidArgument, match="Special"):
        eb.encode_event(Special())


def test_two_classes_under_one_name_and_version_are_an_error():
    with pytest.raises(eb.errors.InvalidEventType, match=r"Empty.*already registered"):

        @eb.event("test_event.empty")
        class Other: ...


def test_another_version_of_a_name_is_another_class():
    @eb.event("test_event.empty", version=7, oldest_version=7)
    class EmptyLater: ...

    data = recorded("test_event.empty", b"{}", v="7")
    assert type(eb.decode_event(data)) is EmptyLater


def test_a_class_has_one_name():
    with pytest.raises(eb.errors.InvalidEventType, match="already registered as"):
        eb.register_event("test_event.emptier")(Empty)


@pytest.mark.parametrize("name", ["", "a\nb", "a\x00", "x" * 256, "é" * 128])
def test_an_unfit_name_is_refused(name):
    with pytest.raises(eb.errors.InvalidEventType):
        eb.register_event(name)(msgspec.defstruct("S", []))


@pytest.mark.parametrize("version", [0, -1])
def test_versions_count_from_one(version):
    with pytest.raises(eb.errors.InvalidEventType, match="count from 1"):
        eb.register_event("test_event.counted", version=version)(
            msgspec.defstruct("S", [])
        )


def test_a_class_without_fields_of_its_own_kind_is_refused():
    with pytest.raises(eb.errors.InvalidEventType, match="use @event"):

        @eb.register_event("test_event.plain_class")
        class Plain: ...


@pytest.mark.parametrize("made", [StructEvent, ModelEvent, AttrsEvent])
def test_a_class_of_another_library_is_registered_not_made(made):
    with pytest.raises(eb.errors.InvalidEventType, match="use @register_event"):
        eb.event("test_event.made")(made)


@pytest.mark.parametrize("decorator", [eb.event, eb.register_event])
def test_a_decorator_without_a_name_is_refused(decorator):
    with pytest.raises(
        eb.errors.InvalidEventType, match=r'@event\("order.submitted"\)'
    ):

        @decorator
        class Nameless: ...


def test_a_module_that_is_loaded_again_may_define_its_events_again(monkeypatch):
    notebook = types.ModuleType("a_notebook")
    monkeypatch.setitem(sys.modules, "a_notebook", notebook)
    notebook.eb = eb
    cell = "@eb.event('test_event.cell')\nclass Cell:\n    x: int\n"
    exec(cell, vars(notebook))
    exec(cell, vars(notebook))
    event = notebook.Cell(1)
    assert eb.decode_event(recorded(*eb.encode_event(event))) == event


def test_a_class_that_was_defined_again_replaces_the_old_one(monkeypatch):
    notebook = types.ModuleType("another_notebook")
    monkeypatch.setitem(sys.modules, "another_notebook", notebook)
    registry = EventRegistry()
    vars(notebook).update(eb=eb, registry=registry)
    cell = (
        "@eb.event('test_event.other_cell', registry=registry)\n"
        "class Cell:\n    {}: int\n"
    )
    generation = registry.generation
    exec(cell.format("x"), vars(notebook))
    assert registry.generation == generation
    old = notebook.Cell(1)
    exec(cell.format("y"), vars(notebook))
    assert registry.generation == generation + 1
    with pytest.raises(
        eb.errors.InvalidArgument, match="make the event with the new class"
    ):
        eb.encode_event(old, registry=registry)
    assert eb.encode_event(notebook.Cell(2), registry=registry)[1] == b'{"y":2}'


def test_the_type_of_a_class_is_known():
    assert eb.event_type(Moved) == "test_event.moved"


def test_a_recorded_event_has_all_that_the_log_knows():
    raw = recorded("test_event.empty", b"{}", correlation_id="c", causation_id="d")
    typed = eb.Recorded(eb.decode_event(raw), raw)
    facts = ["stream", "version", "position", "type", "event_id", "recorded_at"]
    facts += ["metadata", "correlation_id", "causation_id", "data"]
    for fact in facts:
        assert getattr(typed, fact) == getattr(raw, fact)
    assert typed.event == Empty()
    assert typed == eb.Recorded(Empty(), raw)
    assert hash(typed) == hash(eb.Recorded(Empty(), raw))
    assert typed != raw
    assert "Empty()" in repr(typed)
    with pytest.raises(AttributeError):
        typed.event = None


@pytest.mark.parametrize("frozen", [True, False])
def test_a_dataclass_is_registered_not_made(frozen):
    made = dataclasses.dataclass(frozen=frozen)(
        type("Made", (), {"__annotations__": {}})
    )
    with pytest.raises(
        eb.errors.InvalidEventType, match="a dataclass already; use @register"
    ):
        eb.event("test_event.made")(made)


def test_a_class_that_cannot_become_frozen_is_refused():
    with pytest.raises(eb.errors.InvalidEventType, match="non-frozen"):

        @eb.event("test_event.heir_of_plain")
        class Heir(PlainEvent):
            note: str = ""


def test_a_class_whose_defaults_come_first_is_refused():
    with pytest.raises(eb.errors.InvalidEventType, match="non-default argument"):

        @eb.event("test_event.default_first")
        class DefaultFirst:
            first: int = 0
            second: int


@pytest.mark.parametrize(
    "kind", [enum.Enum("Colour", ["RED"]), NamedTuple("Pair", [("left", int)])]
)
def test_a_class_without_fields_of_its_own_is_refused(kind):
    with pytest.raises(eb.errors.InvalidEventType, match="not a class with fields"):
        eb.event("test_event.odd_kind")(kind)


@pytest.mark.parametrize("version", ["2", True, 1.0, 10**9])
def test_a_version_that_could_not_be_read_back_is_refused(version):
    with pytest.raises(eb.errors.InvalidEventType, match="version"):
        eb.event("test_event.odd_version", version=version)
