"""Numbers of one kind never meet numbers of another, and never leave their bounds."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from decimal import Decimal
from fractions import Fraction

import pytest

import eventbraid as eb


class Money(eb.Int, ge=0):
    """Cents."""


class Quantity(eb.Int, gt=0): ...


class Percent(eb.Int, ge=0, lt=101): ...


class Balance(eb.Int): ...


class Price(Money, le=1_000_000): ...


KEPT = [operator.add, operator.sub, operator.floordiv, operator.mod]
COMPARED = [
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
]
LOST = [
    operator.mul,
    operator.truediv,
    operator.pow,
    divmod,
    operator.lshift,
    operator.rshift,
    operator.and_,
    operator.or_,
    operator.xor,
]


@pytest.mark.parametrize("operation", KEPT)
def test_arithmetic_within_a_kind_keeps_the_kind(operation):
    result = operation(Money(17), Money(5))
    assert type(result) is Money
    assert int(result) == operation(17, 5)


@pytest.mark.parametrize("operation", COMPARED)
@pytest.mark.parametrize(("left", "right"), [(1, 2), (2, 2), (3, 2)])
def test_comparison_within_a_kind_is_that_of_numbers(operation, left, right):
    assert operation(Money(left), Money(right)) is operation(left, right)


@pytest.mark.parametrize("operation", [*KEPT, *COMPARED])
@pytest.mark.parametrize("other", [Quantity(1), Price(1), 1, 1.0, True], ids=repr)
def test_another_kind_and_bare_numbers_are_refused(operation, other):
    with pytest.raises(TypeError, match="int\\(value\\)"):
        operation(Money(1), other)


@pytest.mark.parametrize("operation", [*KEPT, *COMPARED])
@pytest.mark.parametrize("other", [Quantity(1), 1], ids=repr)
def test_another_kind_is_refused_on_the_left_too(operation, other):
    with pytest.raises(TypeError, match="int\\(value\\)"):
        operation(other, Money(1))


@pytest.mark.parametrize("operation", LOST)
@pytest.mark.parametrize("other", [Money(1), Quantity(1), 1], ids=repr)
def test_operators_that_lose_the_kind_are_refused(operation, other):
    for left, right in [(Money(1), other), (other, Money(1))]:
        with pytest.raises(TypeError, match=r"times|int\(value\)"):
            operation(left, right)


def test_the_refusal_says_what_to_write():
    with pytest.raises(TypeError, match=r"Money\(5\) \+ 3 \(int\): write Money\(3\)"):
        Money(5) + 3
    with pytest.raises(TypeError, match=r"Money\(5\) \* 3 \(int\): write value.times"):
        Money(5) * 3
    with pytest.raises(
        TypeError, match=r"Money\(5\) \+ Quantity\(3\): leave the kinds"
    ):
        Money(5) + Quantity(3)


def test_what_is_no_number_is_just_unequal():
    assert Money(5) != "5"
    assert Money(5) != None  # noqa: E711 - the operator is what is tested
    assert Money(5) not in ["5", None]


def test_a_sum_needs_a_start_of_the_kind():
    assert repr(sum([Money(1), Money(2)], Money(0))) == "Money(3)"
    with pytest.raises(TypeError, match=r"write Money\(0\)"):
        sum([Money(1), Money(2)])


def test_times_multiplies_by_a_number_of_any_kind():
    assert repr(Money(250).times(3)) == "Money(750)"
    assert repr(Money(250).times(Quantity(3))) == "Money(750)"
    for factor in [1.5, True, "3"]:
        with pytest.raises(TypeError):
            Money(250).times(factor)


def test_signs_keep_the_kind():
    assert [repr(-Balance(3)), repr(+Balance(3)), repr(abs(Balance(-3)))] == [
        "Balance(-3)",
        "Balance(3)",
        "Balance(3)",
    ]
    with pytest.raises(eb.InvalidValue):
        -Money(3)


@pytest.mark.parametrize(
    ("kind", "bad", "bound"),
    [
        (Money, -1, ">= 0"),
        (Quantity, 0, ">= 1"),
        (Percent, 101, "<= 100"),
        (Balance, 2**63, "<= 9223372036854775807"),
        (Balance, -(2**63) - 1, ">= -9223372036854775808"),
        (Price, 1_000_001, "<= 1000000"),
        (Price, -1, ">= 0"),
    ],
)
def test_a_number_out_of_bounds_is_not_made(kind, bad, bound):
    with pytest.raises(eb.InvalidValue) as refused:
        kind(bad)
    assert refused.value.type == kind.__name__
    assert refused.value.value == str(bad)
    assert bound in refused.value.bound
    assert refused.value.remedy


@pytest.mark.parametrize("kind", [Money, Quantity, Percent, Balance, Price])
def test_the_bounds_themselves_are_fine(kind):
    assert int(kind(kind.lowest)) == kind.lowest
    assert int(kind(kind.highest)) == kind.highest


def test_arithmetic_does_not_leave_the_bounds():
    with pytest.raises(
        eb.InvalidValue, match="-2 is not a valid Money: it must be >= 0"
    ):
        Money(5) - Money(7)
    with pytest.raises(eb.InvalidValue):
        Percent(60) + Percent(60)


@pytest.mark.parametrize("bad", [1.0, "1", None, True, b"1", Quantity(1)], ids=repr)
def test_only_bare_whole_numbers_become_a_value(bad):
    with pytest.raises(eb.InvalidValue, match="Money"):
        Money(bad)


def test_a_value_may_enter_its_own_family():
    assert repr(Price(Money(3))) == "Price(3)"
    assert repr(Money(Price(3))) == "Money(3)"
    assert Money(Money(3)) == Money(3)


def test_senseless_bounds_are_refused_when_the_class_is_made():
    with pytest.raises(TypeError, match="two bounds"):
        type("Both", (eb.Int,), {}, ge=1, gt=0)
    with pytest.raises(TypeError, match="no legal value"):
        type("Empty", (eb.Int,), {}, ge=2, le=1)
    with pytest.raises(TypeError, match="narrower"):
        type("Debt", (Money,), {}, ge=-5)


def test_bounds_beyond_64_bits_are_possible_when_asked_for():
    class Huge(eb.Int, ge=0, le=2**128): ...

    assert int(Huge(2**100)) == 2**100


@pytest.mark.parametrize("value", [Money(5), Balance(-(2**63)), Quantity(2**40)])
def test_values_survive_pickling_and_copying(value):
    for again in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert again == value
        assert type(again) is type(value)


def test_values_are_keys_of_mappings():
    assert {Money(5): "five"}[Money(5)] == "five"


def test_values_print_as_numbers_and_show_as_their_kind():
    assert (str(Money(5)), f"{Money(5)}", f"{Money(1234):,}") == ("5", "5", "1,234")
    assert repr(Money(5)) == "Money(5)"


def test_values_count_and_index():
    assert list(range(Quantity(2))) == [0, 1]
    assert "abc"[Money(1)] == "b"


def test_order_and_extremes_work():
    assert sorted([Money(3), Money(1)]) == [Money(1), Money(3)]
    assert max(Money(3), Money(1)) == Money(3)


def test_fractions_and_decimals_do_not_swallow_the_kind():
    for operation in (operator.add, operator.sub, operator.mul, operator.lt):
        for other in (Fraction(1), Decimal(1), 1.5, 1j):
            with pytest.raises(TypeError):
                operation(Money(3), other)
        with pytest.raises(TypeError):
            operation(Fraction(1), Money(3))
    for other in (Fraction(3), Decimal(3), 3.0, 3 + 0j):
        with pytest.raises(TypeError):
            assert Money(3) != other
    assert Decimal(Money(3)) == 3


def test_numbers_of_numpy_leave_the_operation_to_the_kind():
    # numpy's protocol: an operand with this attribute decides, and it refuses.
    assert Money.__array_ufunc__ is None
    numpy = pytest.importorskip("numpy")
    for number in (numpy.int64(1), numpy.float64(1.5), numpy.array([1, 2])):
        for operation in (operator.add, operator.sub, operator.mul, operator.lt):
            with pytest.raises(TypeError):
                operation(number, Money(3))
            with pytest.raises(TypeError):
                operation(Money(3), number)


@pytest.mark.parametrize("side", ["ge", "gt", "le", "lt"])
@pytest.mark.parametrize(
    "bound",
    [math.nan, math.inf, 1.5, True, "1", 10**5000, -(10**5000)],
    ids=["nan", "inf", "float", "bool", "str", "huge", "low"],
)
def test_a_bound_that_no_number_can_meet_or_break_is_refused(
    side: str, bound: object
) -> None:
    with pytest.raises(
        eb.errors.InvalidArgument, match=f"invalid {side} of X .*leave it out"
    ):
        type("X", (eb.Int,), {}, **{side: bound})


def test_a_bound_of_another_kind_is_taken_as_a_bare_number() -> None:
    class Limited(eb.Int, ge=Money(3)): ...

    assert type(Limited.lowest) is int
    with pytest.raises(eb.InvalidValue):
        Limited(2)
