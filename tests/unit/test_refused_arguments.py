"""Whatever value an error shows, the error is raised, and nothing else is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import Callable

HUGE = 10**5000


class Unshowable(int):
    """A number whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


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
