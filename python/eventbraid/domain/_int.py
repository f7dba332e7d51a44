"""Whole numbers with a meaning and bounds."""

from __future__ import annotations

from numbers import Number
from typing import TYPE_CHECKING, ClassVar, Never, TypeGuard

from eventbraid.domain._invalid_value import check_bound, described, refusal, shown
from eventbraid.domain._pydantic import pydantic_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from pydantic_core import CoreSchema

    from eventbraid.errors import InvalidValue

LOWEST = -(2**63)
HIGHEST = 2**63 - 1


class Int(int):
    """A whole number of one kind, such as money in cents, with bounds.

    Derive a class for each kind and give its bounds: ``ge``, ``gt``, ``le``, ``lt``.
    A side without a bound ends where 64-bit signed numbers end. Numbers of the same
    kind are added, subtracted, divided (``//``, ``%``) and compared, and the result
    is of that kind again, within its bounds. Anything else is refused with a
    `TypeError`, so that cents never meet pieces by accident: say ``int(value)`` to
    leave the kind and ``Kind(number)`` to enter it.

    Sums need a start of the kind: ``sum(prices, Money(0))``. A `float`, a `complex` or
    a `Decimal` on the left (``1.5 + Money(1)``) is decided by these types alone, which
    take a subclass of `int` for an `int`: the result is a bare number, which no field
    of the kind accepts. A `Fraction` and numpy's numbers and arrays are refused.

    Raises:
        InvalidValue: The number is out of bounds, or no whole number.

    Example:
        >>> import eventbraid as eb
        >>> class Money(eb.Int, ge=0):
        ...     "Cents."
        >>> Money(5) + Money(7)
        Money(12)
        >>> sum([Money(1), Money(2)], Money(0))
        Money(3)
        >>> Money(250).times(3)
        Money(750)
        >>> Money(5) - Money(7)
        Traceback (most recent call last):
        ...
        eventbraid.errors.InvalidValue: -2 is not a valid Money: it must be >= 0; ...
    """

    __slots__ = ()

    lowest: ClassVar[int] = LOWEST
    highest: ClassVar[int] = HIGHEST

    def __init_subclass__(
        cls,
        *,
        ge: int | None = None,
        gt: int | None = None,
        le: int | None = None,
        lt: int | None = None,
    ) -> None:
        """Set the bounds of a new kind.

        Args:
            ge: The smallest number allowed.
            gt: The number that all must be greater than.
            le: The greatest number allowed.
            lt: The number that all must be less than.

        Raises:
            InvalidArgument: A bound is not an `int`.
            TypeError: No number is within the bounds, or the parent's are narrower.
        """
        super().__init_subclass__()
        lower, upper = {"ge": ge, "gt": gt}, {"le": le, "lt": lt}
        cls.lowest = _one_bound(cls, lower, step=1, inherited=cls.lowest)
        cls.highest = _one_bound(cls, upper, step=-1, inherited=cls.highest)
        if cls.lowest > cls.highest:
            raise TypeError(
                f"{cls.__name__} has no legal value: "
                f"{cls.lowest} is above {cls.highest}; change its bounds"
            )
        _refuse_wider(cls)

    def __new__(cls, value: int, /) -> Self:
        """Make a number of this kind, or refuse."""
        kind = type(value)
        if kind is cls:
            return value  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
        if kind is not int:
            value = _plain(cls, value)
        if not cls.lowest <= value <= cls.highest:
            raise _out_of_bounds(cls, value)
        return int.__new__(cls, value)

    def times(self, factor: int, /) -> Self:
        """Multiply by a number of any kind, and stay of this kind.

        Args:
            factor: A bare `int` or any `Int`, such as a quantity.

        Raises:
            InvalidValue: The product is out of bounds.

        Example:
            >>> import eventbraid as eb
            >>> class Money(eb.Int, ge=0): ...
            >>> class Quantity(eb.Int, gt=0): ...
            >>> Money(1499).times(Quantity(2))
            Money(2998)
        """
        if not _is_whole(factor):
            raise _mixed(self, "times", factor)
        return type(self)(int.__mul__(self, factor))

    # An override that accepts less than int's is what this class is for, hence the
    # ignores. The reflected forms accept Never, so that checkers refuse two kinds.

    def __add__(self, other: Self, /) -> Self:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        kind = type(self)
        if type(other) is not kind:
            raise _mixed(self, "+", other)
        total = int.__add__(self, other)
        if kind.__new__ is _new and kind.lowest <= total <= kind.highest:
            # As the constructor does, but without its call.
            return int.__new__(kind, total)
        return kind(total)

    def __radd__(self, other: Never, /) -> Never:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        raise _mixed(other, "+", self)

    def __sub__(self, other: Self, /) -> Self:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        kind = type(self)
        if type(other) is not kind:
            raise _mixed(self, "-", other)
        total = int.__sub__(self, other)
        if kind.__new__ is _new and kind.lowest <= total <= kind.highest:
            # As the constructor does, but without its call.
            return int.__new__(kind, total)
        return kind(total)

    def __rsub__(self, other: Never, /) -> Never:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        raise _mixed(other, "-", self)

    def __floordiv__(self, other: Self, /) -> Self:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        if type(other) is not type(self):
            raise _mixed(self, "//", other)
        return type(self)(int.__floordiv__(self, other))

    def __rfloordiv__(self, other: Never, /) -> Never:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        raise _mixed(other, "//", self)

    def __mod__(self, other: Self, /) -> Self:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        if type(other) is not type(self):
            raise _mixed(self, "%", other)
        return type(self)(int.__mod__(self, other))

    def __rmod__(self, other: Never, /) -> Never:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        raise _mixed(other, "%", self)

    def __lt__(self, other: Self, /) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        if type(other) is not type(self):
            raise _mixed(self, "<", other)
        return int.__lt__(self, other)

    def __le__(self, other: Self, /) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        if type(other) is not type(self):
            raise _mixed(self, "<=", other)
        return int.__le__(self, other)

    def __gt__(self, other: Self, /) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        if type(other) is not type(self):
            raise _mixed(self, ">", other)
        return int.__gt__(self, other)

    def __ge__(self, other: Self, /) -> bool:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        if type(other) is not type(self):
            raise _mixed(self, ">=", other)
        return int.__ge__(self, other)

    # `total == 0` that is quietly never true would be the worst of the mix-ups, so a
    # number of another kind raises here too; what is no number at all is just unequal.

    def __eq__(self, other: object, /) -> bool:
        if type(other) is type(self):
            return int.__eq__(self, other)
        if isinstance(other, Number):
            raise _mixed(self, "==", other)
        return NotImplemented

    def __ne__(self, other: object, /) -> bool:
        if type(other) is type(self):
            return int.__ne__(self, other)
        if isinstance(other, Number):
            raise _mixed(self, "!=", other)
        return NotImplemented

    __hash__ = int.__hash__

    # numpy's numbers and arrays leave an operation to an operand that says so; it is
    # refused here. Otherwise the result would be a bare number.
    __array_ufunc__ = None

    # `Fraction(1) + Money(1)` asks for these, and would make a bare fraction of them.

    @property
    def numerator(self) -> Never:
        """Refuse to be a part of a fraction."""
        raise _mixed_fraction(self)

    @property
    def denominator(self) -> Never:
        """Refuse to be a part of a fraction."""
        raise _mixed_fraction(self)

    def __neg__(self) -> Self:
        return type(self)(int.__neg__(self))

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return type(self)(int.__abs__(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int.__repr__(self)})"

    __str__ = int.__repr__

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: object, /
    ) -> CoreSchema:
        """Return how pydantic validates, reads and writes a number of this kind."""
        return pydantic_schema(cls, int, {"ge": cls.lowest, "le": cls.highest})


_new = Int.__new__


def _one_bound(
    kind: type[Int], side: dict[str, int | None], *, step: int, inherited: int
) -> int:
    remedy = "leave it out to have no bound within 64 bits"
    inclusive, exclusive = (
        None if bound is None else check_bound(kind, name, bound, remedy)
        for name, bound in side.items()
    )
    if inclusive is not None and exclusive is not None:
        raise TypeError(
            f"{kind.__name__} has two bounds on one side: give ge or gt, le or lt"
        )
    if inclusive is not None:
        return inclusive
    return inherited if exclusive is None else exclusive + step


def _refuse_wider(kind: type[Int]) -> None:
    """A subclass of Money is money too: it may not hold what Money refuses."""
    parent = next(base for base in kind.__mro__[1:] if issubclass(base, Int))
    if parent is not Int and (
        kind.lowest < parent.lowest or kind.highest > parent.highest
    ):
        raise TypeError(
            f"{kind.__name__} would allow numbers that {parent.__name__} refuses; "
            "give narrower bounds, or derive it from Int"
        )


def _out_of_bounds(kind: type[Int], value: int) -> InvalidValue:
    bound = f">= {kind.lowest}" if value < kind.lowest else f"<= {kind.highest}"
    remedy = "compare before you calculate, or check what comes in"
    return refusal(kind.__name__, value, f"it must be {bound}", remedy)


def _plain(kind: type[Int], value: object) -> int:
    """Leave a kind of the same family; refuse whatever is not a whole number."""
    if isinstance(value, Int):
        if isinstance(value, kind) or issubclass(kind, type(value)):
            return int(value)
        remedy = f"write {kind.__name__}(int(value)) if it really is one"
        raise refusal(kind.__name__, value, "it is a number of another kind", remedy)
    if _is_whole(value):
        return int(value)
    raise refusal(kind.__name__, value, "it is not a whole number", "give an int")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _mixed(left: object, operator: str, right: object) -> TypeError:
    """Make the error for an operation between two kinds."""
    number = left if isinstance(left, Int) else right
    kind = type(number).__name__
    other = right if number is left else left
    if isinstance(other, Int):
        remedy = "leave the kinds with int(value), then enter the one that is meant"
    elif isinstance(other, int):
        remedy = f"write {kind}({shown(other)}), or int(value) to leave {kind}"
    else:
        remedy = f"use whole numbers of the kind {kind}, or int(value) to leave it"
    return TypeError(f"{described(left)} {operator} {described(right)}: {remedy}")


def _mixed_fraction(number: Int) -> TypeError:
    kind = type(number).__name__
    return TypeError(
        f"{described(number)} can't become a fraction: use whole numbers of the kind "
        f"{kind}, or int(value) to leave it"
    )


def _refusing(symbol: str, *, reflected: bool) -> Callable[..., Never]:
    """Make the method of an operator that would lose the kind."""

    def refuse(self: Int, other: object = None, *_: object) -> Never:
        left, right = (other, self) if reflected else (self, other)
        kind = type(self).__name__
        remedy = (
            f"write value.times(n) to stay a {kind}"
            if symbol == "*"
            else "say int(value) first, because the result is of no known kind"
        )
        raise TypeError(f"{described(left)} {symbol} {described(right)}: {remedy}")

    return refuse


for _name, _symbol in {
    "mul": "*",
    "truediv": "/",
    "divmod": "divmod",
    "pow": "**",
    "lshift": "<<",
    "rshift": ">>",
    "and": "&",
    "or": "|",
    "xor": "^",
}.items():
    setattr(Int, f"__{_name}__", _refusing(_symbol, reflected=False))
    setattr(Int, f"__r{_name}__", _refusing(_symbol, reflected=True))
