"""Whatever value an error shows, the error is raised, and nothing else is printed."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import eventbraid as eb
from eventbraid.event import EventDecoder, EventRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

HUGE = 10**5000


class Unshowable(int):
    """A number whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class Unregistered: ...


class Purse(eb.Stream[Any], category="purse"): ...


def _nested(levels: int) -> list[Any]:
    held: list[Any] = []
    for _ in range(levels):
        held = [held]
    return held


def _calls(store: eb.EventStore) -> dict[str, Callable[[object], object]]:
    event = ("s-1", "happened", b"{}")
    return {
        "expect": lambda bad: store.append([event], expect={"s-1": bad}),  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
        "at": lambda bad: store.read_streams(["s-1"], at=bad),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        "after": lambda bad: store.read_streams(["s-1"], after={"s-1": bad}),  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    }


@pytest.mark.parametrize("call", ["expect", "at", "after"])
@pytest.mark.parametrize(
    "bad", [HUGE, -HUGE, Unshowable(-1)], ids=["huge", "negative", "unshowable"]
)
def test_a_number_without_a_text_is_refused_and_prints_nothing(
    call: str, bad: object, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        eb.open("memory:") as store,
        pytest.raises(eb.errors.InvalidArgument, match="whose str raises"),
    ):
        _calls(store)[call](bad)
    assert capfd.readouterr().err == ""


def test_a_deeply_nested_stream_id_is_refused() -> None:
    with pytest.raises(
        eb.errors.InvalidStreamId, match="whose repr raises RecursionError"
    ):
        Purse(_nested(5_000))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_key_without_a_text_is_named_in_the_error_of_its_field() -> None:
    @eb.value_object
    class Counts:
        by_number: dict[int, int]

    with pytest.raises(eb.InvalidValue, match="Counts.by_number"):
        Counts({HUGE: "x"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


def test_an_event_type_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(eb.errors.InvalidEventType, match="surrogate"):
        eb.event("\udc80")(type("Broken", (), {}))


@pytest.mark.parametrize("bad", [[], (), "x", 1])
def test_names_and_classes_of_wrong_types_are_type_errors(bad: Any) -> None:
    with pytest.raises(TypeError, match="must be a class"):
        eb.event_type(bad)
    if not isinstance(bad, str):
        with (
            eb.open("memory:") as store,
            pytest.raises(TypeError, match="must be a str"),
        ):
            eb.Lease(store, bad)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: EventDecoder(on_undecodable="skip"), "invalid on_undecodable 'skip':"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        (lambda: Purse("order-1"), "invalid stream 'order-1':"),
        (lambda: load("purse-1"), "invalid stream 'purse-1':"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        (lambda: codec_without_id("a b"), "invalid codec id 'a b':"),
        (lambda: eb.event(7), "invalid event type '7':"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        (lambda: "x" * 200, None),
    ],
    ids=["policy", "stream", "load", "codec", "event type", "long"],
)
def test_a_refused_text_is_quoted_once(
    call: Callable[[], object], text: str | None
) -> None:
    if text is None:
        with pytest.raises(eb.errors.InvalidArgument, match=r"'x{77}\.\.\.'"):
            EventDecoder(on_undecodable=call())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return
    with pytest.raises(eb.errors.InvalidArgument) as raised:
        call()
    assert str(raised.value).startswith(text)


def load(stream: Any) -> None:
    with eb.open("memory:") as store:
        eb.Executor(store).load(stream)


def codec_without_id(written: str) -> None:
    class Codec:
        id = written

        def encode(self, body: bytes, context: object) -> bytes:
            return body

        decode = encode

    EventRegistry().use_codec(Codec())


def test_no_call_quotes_the_value_of_an_invalid_argument_twice() -> None:
    """`InvalidArgument` quotes its value, so a repr as the value has two quotes."""
    calls = [
        f"{file.name}:{call.lineno}"
        for file in Path(eb.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in {"InvalidArgument", "InvalidStreamId", "InvalidEventType"}
        and len(call.args) > 1
        and isinstance(call.args[1], ast.Call)
        and ast.unparse(call.args[1].func) == "shown"
    ]
    assert calls == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (Unregistered(), "not Unregistered;"),
        (("stream", "type"), "not a tuple of length 2;"),
        ("text", "not str;"),
        (None, "not NoneType;"),
    ],
)
def test_an_append_of_another_object_names_new_event(given: Any, found: str) -> None:
    with eb.open("memory:") as store:
        with pytest.raises(TypeError, match=r"NewEvent or a \(stream.*new_event") as no:
            store.append([given])
        assert found in str(no.value)
        assert store.head() == 0


def test_an_append_of_one_event_asks_for_a_list() -> None:
    event = eb.NewEvent("s-1", "happened", b"")
    with (
        eb.open("memory:") as store,
        pytest.raises(TypeError, match=r"an iterable of events, such as \[event\]"),
    ):
        store.append(event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
