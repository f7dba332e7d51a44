"""Every failure to decode an event is an EventDecodeError.

A reader that moves past events that don't decode catches this error and no other. Any
other exception stops it at one foreign record for ever.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest

import eventbraid as eb


class Money(eb.Int, ge=0): ...


class Faulty(Exception):
    def __str__(self) -> str:
        return f"faulty {self.args}"


RAISED = {
    "key": KeyError("x"),
    "recursion": RecursionError("too deep"),
    "memory": MemoryError(),
    "assertion": AssertionError(),
    "system": OSError(5, "x"),
    "arithmetic": ZeroDivisionError("x"),
    "own": Faulty(1),
    "stop": StopIteration(),
    "rule": eb.InvalidValue("Raising.how", "x", "no", "no"),
}


@eb.event("test_decoding.raising")
class Raising:
    how: str

    def __post_init__(self) -> None:
        if self.how in RAISED:
            raise RAISED[self.how]


@eb.register_event("test_decoding.struct")
class RaisingStruct(msgspec.Struct):
    how: str

    def __post_init__(self) -> None:
        raise RAISED[self.how]


@eb.register_event("test_decoding.model")
class RaisingModel(pydantic.BaseModel):
    how: str

    @pydantic.field_validator("how")
    @classmethod
    def check(cls, how: str) -> str:
        raise RAISED[how]


@eb.event("test_decoding.held")
class Held:
    number: int = 0
    real: float = 0.0
    exact: Decimal = Decimal(0)
    day: date = date(2026, 1, 1)
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    span: timedelta = timedelta(0)
    money: Money = Money(0)
    text: str = ""
    data: bytes = b""
    any: Any = None
    keys: dict[Money, int] | None = None


def recorded(name, data, **metadata):
    return eb.RecordedEvent(
        stream="foreign-1",
        version=1,
        position=7,
        type=name,
        event_id=UUID(int=1),
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        data=data,
        metadata=metadata,
    )


@pytest.mark.parametrize("how", RAISED)
@pytest.mark.parametrize("name", ["raising", "struct", "model"])
def test_what_a_class_raises_is_an_error_of_the_event(name, how):
    body = f'{{"how":"{how}"}}'.encode()
    with pytest.raises(eb.errors.EventDecodeError) as refused:
        eb.decode_event(recorded(f"test_decoding.{name}", body))
    assert (refused.value.stream, refused.value.position) == ("foreign-1", 7)


@pytest.mark.parametrize(
    "fields",
    [
        b'"number":' + b"1" * 5_000,
        b'"number":1' + b"0" * 100_000,
        b'"real":1e999',
        b'"real":NaN',
        b'"exact":"1E+999999999999999999999"',
        b'"exact":"x"',
        b'"day":"2026-02-30"',
        b'"at":"0000-01-01T00:00:00Z"',
        b'"at":"9999-12-31T23:59:59.999999-99:99"',
        b'"span":"P99999999999999999999D"',
        b'"money":-1',
        b'"money":' + b"9" * 5_000,
        b'"keys":{"' + b"9" * 5_000 + b'":1}',
        b'"keys":{"x":1}',
        b'"text":"\\ud800"',
        b'"text":"\xff"',
        b'"data":"!"',
        b'"any":' + b"1" * 5_000,
        b'"any":' + b"[" * 5_000,
        b'"any":1}{',
    ],
)
def test_a_body_with_absurd_values_is_an_error_of_the_event(fields):
    with pytest.raises(eb.errors.EventDecodeError):
        eb.decode_event(recorded("test_decoding.held", b"{" + fields + b"}"))


@pytest.mark.parametrize(
    "version", ["9" * 5_000, "9" * 10, "\u00b2", "\u0663", " 1", "1_0", "+1", "1\n", ""]
)
def test_an_absurd_schema_version_is_an_error_of_the_event(version):
    with pytest.raises(eb.errors.EventDecodeError, match="schema version"):
        eb.decode_event(recorded("test_decoding.held", b"{}", v=version))


def test_an_unknown_version_stays_an_unknown_type():
    with pytest.raises(eb.errors.UnknownEventType):
        eb.decode_event(recorded("test_decoding.held", b"{}", v="999999999"))


class Holding(eb.Stream[Held | Raising], category="holding"): ...


class Look(eb.StatefulCommand[int, Held | Raising]):
    holding: eb.Declared[Holding]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state + 1

    def decide(self, state, /):
        return ()


@pytest.mark.parametrize(
    ("name", "body", "metadata"),
    [
        ("held", b"{}", {"v": "9" * 5_000}),
        ("held", b'{"any":' + b"[" * 5_000, {}),
        ("raising", b'{"how":"key"}', {}),
    ],
)
def test_a_command_gets_the_error_of_the_event(name, body, metadata):
    with eb.open("memory:") as store:
        new = eb.NewEvent("holding-1", f"test_decoding.{name}", body, metadata=metadata)
        store.append([new])
        with pytest.raises(eb.errors.EventDecodeError):
            eb.Executor(store).execute(Look(holding="holding-1"))
