"""What stands for a command under its key, and for a saga's state, in any process.

Equal values have equal content, also where sets iterate in another order after a
restart. Values that are not equal have different content, also where their JSON alone
would be the same.
"""

from __future__ import annotations

import enum
import os
import subprocess
import sys
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

import eventbraid as eb
from eventbraid.saga.definition._codec import Codec


class Color(enum.Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796 - an alias
    BLUE = "blue"
    GREEN = "green"


@eb.value_object
class Card:
    digits: str
    tags: frozenset[str] = frozenset()


@eb.value_object
class Transfer:
    iban: str


class Basket(pydantic.BaseModel):
    tags: set[str]
    pairs: frozenset[tuple[str, str]] = frozenset()


class Money(eb.Int): ...


@eb.event("content.kept")
class Kept: ...


class Box(eb.Stream[Kept], category="box"): ...


class _Keep(eb.StatefulCommand[int, Kept], abstract=True):
    box: eb.Declared[Box]

    def initial(self) -> int:
        return 0

    def apply(self, state: int, _: eb.Recorded[Kept], /) -> int:
        return state

    def decide(self, _: int, /) -> list[eb.Write]:
        return [self.box.write(Kept())]


class KeepAny(_Keep):
    held: Any


class KeepText(_Keep):
    held: bytes | str | Decimal


class KeepColors(_Keep):
    held: frozenset[Color]


class KeepSets(_Keep):
    held: frozenset[frozenset[str]]


class KeepCards(_Keep):
    held: frozenset[Card | Transfer]


class KeepBounded(_Keep):
    held: Annotated[frozenset[Card], msgspec.Meta(min_length=1)]


class KeepBasket(_Keep):
    held: Basket


class KeepBaskets(_Keep):
    held: list[Basket]


class KeepCounts(_Keep):
    held: dict[int, int]


_SETS = frozenset([frozenset("ab"), frozenset("cde"), frozenset("xyz")])
_CARDS = frozenset([Card("1", frozenset("abc")), Card("2"), Transfer("3")])
_BASKET = Basket(
    tags=set("abcdef"), pairs=frozenset([("a", "b"), ("c", "d"), ("e", "f")])
)

STABLE: list[_Keep] = [
    KeepAny(box="box-1", held={"a": [set("abcdef"), _SETS, {1, "1", None}]}),
    KeepColors(box="box-1", held=frozenset(Color)),
    KeepSets(box="box-1", held=_SETS),
    KeepCards(box="box-1", held=_CARDS),
    KeepBounded(box="box-1", held=frozenset([Card("1"), Card("2"), Card("3")])),
    KeepBasket(box="box-1", held=_BASKET),
    KeepBaskets(box="box-1", held=[_BASKET]),
    KeepCounts(box="box-1", held={2: 1, 1: 2}),
]

STATES: list[tuple[Any, Any]] = [
    (frozenset[Color], frozenset(Color)),
    (frozenset[frozenset[str]], _SETS),
    (frozenset[Card | Transfer], _CARDS),
    (frozenset[int | str | None], frozenset([1, 2, "1", "b", None])),
    (set[tuple[int, frozenset[str]]], {(1, one) for one in _SETS}),
    (
        Annotated[frozenset[Card], msgspec.Meta(min_length=1)],
        frozenset([Card("1"), Card("2"), Card("3")]),
    ),
    (Basket, _BASKET),
    (list[Basket], [_BASKET]),
    (Any, {"a": [{1, "1", None}]}),
]


def _write_contents() -> None:
    from eventbraid.command._content import content_of

    for command in STABLE:
        sys.stdout.write(f"{content_of(command).decode()}\n")
    for annotation, value in STATES:
        state = Codec[Any](annotation, what="a state").encode(value)
        sys.stdout.write(f"{bytes(state).decode()}\n")


def test_contents_are_the_same_in_each_process() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", f"import {__name__} as m; m._write_contents()"],
            env={
                **os.environ,
                "PYTHONHASHSEED": str(seed),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            check=True,
            capture_output=True,
            timeout=120,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(printed) == 1
    assert len(printed.pop().splitlines()) == len(STABLE) + len(STATES)


@pytest.mark.parametrize("command", STABLE, ids=lambda one: type(one).__name__)
def test_a_command_with_sets_is_replayed_under_its_key(command: _Keep) -> None:
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        executor.execute(command, idempotency_key="k")
        assert executor.execute(command, idempotency_key="k").replayed


@pytest.mark.parametrize(("annotation", "value"), STATES[:-1])
def test_sets_without_an_order_come_back_from_the_log(
    annotation: Any, value: Any
) -> None:
    codec = Codec[Any](annotation, what="a state")
    assert codec.decode(codec.encode(value)) == value


DIFFERENT = [
    (1, True),
    (1, 1.0),
    (0.0, -0.0),
    ("1", Decimal(1)),
    (b"aa", "YWE="),
    (float("nan"), None),
    (float("inf"), float("-inf")),
    (Card("1"), {"digits": "1", "tags": []}),
    (Card("1"), Transfer("1")),
    (Color.RED, "red"),
    (Color.RED, Color.BLUE),
    (Money(1), 1),
    ({1: 2}, {"1": 2}),
    ({True: 2}, {1: 2}),
    ({"a"}, ["a"]),
    ({"$type": "set", "value": ["a"]}, {"a"}),
    ("\u00e9", "e\u0301"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_no_command_gets_the_result_of_another_one(one: object, other: object) -> None:
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        executor.execute(KeepAny(box="box-1", held=one), idempotency_key="k")
        with pytest.raises(eb.errors.IdempotencyMismatch):
            executor.execute(KeepAny(box="box-1", held=other), idempotency_key="k")


@pytest.mark.parametrize(("one", "other"), [(b"aa", "YWE="), ("1", Decimal(1))])
def test_a_union_in_a_command_tells_its_members_apart(one: Any, other: Any) -> None:
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        executor.execute(KeepText(box="box-1", held=one), idempotency_key="k")
        with pytest.raises(eb.errors.IdempotencyMismatch):
            executor.execute(KeepText(box="box-1", held=other), idempotency_key="k")


def test_an_alias_of_an_enum_is_the_same_value() -> None:
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        for color in (Color.RED, Color.CRIMSON):
            command = KeepAny(box="box-1", held=[color, {color: (1, 2)}])
            done = executor.execute(command, idempotency_key="k")
        assert done.replayed
