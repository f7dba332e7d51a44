"""Schemas of values without members: numbers, texts, times, enums, literals."""

from __future__ import annotations

import datetime as dt
import enum
import types
import typing
import uuid
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

import msgspec

from eventbraid.domain._int import Int
from eventbraid.domain._schema import (
    EVERYTHING,
    MAX_NESTING,
    NOTHING,
    Misfit,
    Rule,
    Schema,
    Use,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eventbraid.domain._id import Id
    from eventbraid.domain._text import Text

_UTC = dt.UTC
_LOWEST, _HIGHEST = -(2**63), 2**64 - 1


class Atom(Schema):
    """A built-in type without members."""

    def __init__(self, kind: type) -> None:
        """Look up what is special about the type."""
        super().__init__(None if kind is types.NoneType else kind)
        self.kind = kind
        self.json = frozenset({_JSON[kind]})
        self.is_plain = kind in _PLAIN
        self.changeable = kind is bytearray

    def make_rule(self, *, stored: bool) -> Rule:
        """Compile the check of values."""
        del stored
        check = _CHECKS.get(self.kind)
        return Rule(self.kind, NOTHING.accepts) if check is None else Rule(None, check)

    def narrow(self, value: object, use: Use) -> object:
        """Return the value, or the equal value of the built-in type."""
        if self.rule().allows(value):
            return value
        if isinstance(value, bool | Int):
            raise Misfit(value, self)
        if (
            use is Use.COMMAND
            and self.kind is not float
            and isinstance(value, self.kind)
        ):
            return value
        narrower = _NARROWER.get(self.kind)
        if narrower is not None:
            try:
                narrowed = narrower(value)
            except (OverflowError, ValueError, TypeError):
                raise Misfit(value, self, self._reason_of(value)) from None
            if self.rule().allows(narrowed):
                return narrowed
        raise Misfit(value, self, self._reason_of(value))

    def _reason_of(self, value: object) -> str:
        """Return what is wrong with a value whose type alone doesn't explain it."""
        if self.kind is dt.date and isinstance(value, dt.datetime):
            return "its time would be lost; give value.date(), or annotate datetime"
        return _REASONS.get(self.kind, "") if isinstance(value, self.kind) else ""


def _is_finite(value: object) -> bool:
    return type(value) is float and isfinite(value)


def _is_finite_decimal(value: object) -> bool:
    return type(value) is Decimal and value.is_finite()


def _is_datetime(value: object) -> bool:
    if type(value) is not dt.datetime:
        return False
    zone = value.tzinfo
    return (zone is _UTC or zone is None or _is_fixed(zone)) and not value.fold


def _is_time(value: object) -> bool:
    if type(value) is not dt.time:
        return False
    zone = value.tzinfo
    return (zone is None or _is_fixed(zone)) and not value.fold


def _is_fixed(zone: dt.tzinfo) -> bool:
    """JSON has an offset in minutes, not the rules of a zone."""
    if type(zone) is not dt.timezone:
        return False
    offset = zone.utcoffset(None)
    return offset.seconds % 60 == 0 and not offset.microseconds


def _bare_int(value: object) -> int:
    if isinstance(value, int) and type(value).__eq__ is int.__eq__:
        return int(value)
    raise TypeError


def _bare_float(value: object) -> float:
    if isinstance(value, float) or type(value) is int:
        bare = float(value)
        if bare == value:
            return bare
    raise TypeError


def _bare_str(value: object) -> str:
    if isinstance(value, str) and type(value).__eq__ is str.__eq__:
        return str.__str__(value)
    raise TypeError


def _fixed_datetime(value: object) -> dt.datetime:
    """Replace the rules of a zone by the offset that they give for this time.

    Python never takes a time that a zone has twice a year for equal to the same
    instant of another zone, so the fields and the offset are compared here.
    """
    if not isinstance(value, dt.datetime):
        raise TypeError
    offset = value.utcoffset()
    if value.tzinfo is not None and offset is None:
        raise TypeError
    if offset is None and value.fold:
        # Of the two times of a clock that is set back the later, which is not written.
        raise ValueError
    zone = None if offset is None else dt.timezone(offset)
    fixed = dt.datetime.combine(
        dt.date(value.year, value.month, value.day),
        dt.time(value.hour, value.minute, value.second, value.microsecond, zone),
    )
    # A subclass may have more precision than its base.
    if value.replace(tzinfo=None, fold=0) != fixed.replace(tzinfo=None):
        raise ValueError
    return fixed


def _fixed_time(value: object) -> dt.time:
    """Leave out the fold where a fixed offset gives it no meaning."""
    if type(value) is dt.time and value.tzinfo is not None and value.fold:
        return value.replace(fold=0)
    raise TypeError


_JSON: dict[type, str] = {
    types.NoneType: "null",
    bool: "bool",
    int: "int",
    float: "float",
    **dict.fromkeys((str, bytes, bytearray, Decimal, uuid.UUID), "str"),
    **dict.fromkeys((dt.datetime, dt.date, dt.time, dt.timedelta), "str"),
}
ATOMS = frozenset(_JSON)
_PLAIN = {types.NoneType, bool, int, float, str}
_CHECKS: dict[type, Callable[[object], bool]] = {
    float: _is_finite,
    Decimal: _is_finite_decimal,
    dt.datetime: _is_datetime,
    dt.time: _is_time,
}
_NARROWER: dict[type, Callable[[object], object]] = {
    int: _bare_int,
    float: _bare_float,
    str: _bare_str,
    dt.datetime: _fixed_datetime,
    dt.time: _fixed_time,
}
_REASONS: dict[type, str] = {
    float: "JSON has no NaN, no infinity and no whole number beyond 2**53 as a float",
    Decimal: "NaN and infinity are equal to nothing that is read back",
    dt.datetime: "its offset from UTC must be whole minutes, and without an offset "
    "its fold must be 0",
    dt.time: "its zone must be a fixed offset of whole minutes, and without a zone its "
    "fold must be 0",
}


class Named(Schema):
    """A kind of `Int`, `Id` or `Text`."""

    is_custom = True

    def __init__(self, kind: type[Int | Id | Text]) -> None:
        """Look up what is special about the kind."""
        super().__init__(kind)
        self.kind = kind
        self.json = frozenset({"int" if issubclass(kind, Int) else "str"})
        self.is_plain = not issubclass(kind, Int) or (
            kind.lowest >= _LOWEST and kind.highest <= _HIGHEST
        )

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept this very kind: a kind derived from it would come back as its base."""
        del stored
        return Rule(self.kind, NOTHING.accepts)

    def narrow(self, value: object, use: Use) -> object:
        """Return the value; a command's may be of a derived kind."""
        if type(value) is self.kind:
            return value
        if use is Use.COMMAND and isinstance(value, self.kind):
            return value
        raise Misfit(value, self)


class Member(Schema):
    """A member of an enum, written as its value, or else as its name.

    The values are written if all of them are texts, or all are whole numbers. Members
    with values of other types are written as their names. A mixture is refused, because
    one more member could then change how the others are written.
    """

    def __init__(self, kind: type[enum.Enum]) -> None:
        """Find out how its members are written."""
        super().__init__(kind)
        self.kind = kind
        self._values: list[object] = [one.value for one in kind]
        types_: set[type[object]] = {type(value) for value in self._values}
        self.is_by_name = types_.isdisjoint({str, int}) and bool(types_)
        self.json = frozenset({"int" if types_ == {int} else "str"})
        if not self.is_by_name and types_ not in ({str}, {int}):
            self.reason = (
                "some values of its members are str or int, and others aren't; give "
                "all members values of one type"
                if types_
                else "it has no members; define some"
            )

    @property
    def needs_hook(self) -> bool:
        """Whether it is written by name: msgspec writes values."""
        return self.is_by_name

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept members."""
        del stored
        return Rule(self.kind, NOTHING.accepts)

    def written(self, member: enum.Enum) -> object:
        """Return what a member is written as."""
        return member.name if self.is_by_name else member.value

    def read(self, written: object) -> object:
        """Return the member that was written by its name.

        Raises:
            ValueError: No member has this name.
        """
        found = self.kind.__members__.get(cast("str", written))
        if found is None:
            names = ", ".join(self.kind.__members__)
            raise ValueError(
                f"{written!r} is not a member of {self.kind.__name__}: {names}"
            )
        return found

    def names(self) -> Iterable[str]:
        """Return the values of members that are texts."""
        return (value for value in self._values if isinstance(value, str))


_LITERALS = {str, int, types.NoneType}
"""The types of the values of a `Literal` that msgspec reads by itself."""


class OneOf(Schema):
    """A `Literal`."""

    def __init__(self, annotation: object) -> None:
        """Find out whether its values can be read back."""
        super().__init__(annotation)
        self.values: tuple[object, ...] = typing.get_args(annotation)
        kinds = {type(value) for value in self.values}
        self.is_plain = kinds <= _PLAIN
        self._needs_hook = not kinds <= _LITERALS
        self._by_json: dict[tuple[type, object], object] = {}
        for value in self.values:
            written = self.written(value)
            known = self._by_json.setdefault((type(written), written), value)
            if known is not value and known != value:
                self.reason = (
                    f"{known!r} and {value!r} are both written as {written!r}; list "
                    "one of them"
                )
        if not {kind for kind, _ in self._by_json} <= {*_LITERALS, bool}:
            self.reason = (
                "a Literal may list texts, whole numbers, True, False, None, and "
                "members of enums"
            )
        self.json = frozenset(_JSON[kind] for kind, _ in self._by_json if kind in ATOMS)

    @property
    def needs_hook(self) -> bool:
        """Whether it lists members of enums or booleans, which msgspec doesn't read."""
        return self._needs_hook

    @staticmethod
    def written(value: object) -> object:
        """Return what a value is written as."""
        if isinstance(value, enum.Enum):
            return Member(type(value)).written(value)
        return value

    def read(self, written: object) -> object:
        """Return the value that was written.

        Raises:
            ValueError: There is none.
        """
        try:
            return self._by_json[type(written), written]
        except (KeyError, TypeError):
            raise ValueError(f"expected {self.name}, and it is {written!r}") from None

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept the values that are listed, and none of another type."""
        del stored
        allowed = frozenset((type(value), value) for value in self.values)

        def accepts(value: object) -> bool:
            try:
                return (type(value), value) in allowed
            except TypeError:  # Not hashable.
                return False

        return Rule(None, accepts)

    def names(self) -> Iterable[str]:
        """Return the texts that are listed."""
        return (value for value in self.values if isinstance(value, str))


class Bounded(Schema):
    """A type with bounds of msgspec: ``Annotated[int, Meta(ge=0)]``."""

    def __init__(self, annotation: object, plain: Schema) -> None:
        """Take over what is true without the bounds."""
        super().__init__(annotation)
        self.plain = plain
        self.json = plain.json
        self.is_plain = True

    def make_rule(self, *, stored: bool) -> Rule:
        """Judge the type as always, then the bounds as msgspec will on decoding."""
        plain = self.plain.rule(stored=stored)

        def accepts(value: object) -> bool:
            return plain.allows(value) and self._broken_bound(value) is None

        return Rule(None, accepts)

    def narrow(self, value: object, use: Use) -> object:
        """Narrow it as without the bounds, then check them."""
        narrowed = self.plain.narrow(value, use)
        broken = self._broken_bound(narrowed)
        if broken is None:
            return narrowed
        raise Misfit(value, self, broken)

    def _broken_bound(self, value: object) -> str | None:
        """Return the bound that a value breaks, in the words of msgspec."""
        try:
            msgspec.convert(value, cast("Any", self.annotation), dec_hook=_unchanged)
        except msgspec.ValidationError as error:
            return str(error)
        return None

    def children(self) -> Iterable[tuple[str, Schema]]:
        """Return the type without the bounds."""
        return [("", self.plain)]


def _unchanged(_: type, value: object) -> object:
    return value


class Anything(Schema):
    """`Any`: whatever JSON has, and nothing else once it is stored."""

    anything = True
    changeable = True

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept everything, until it is to be written."""
        return Rule(None, _is_json) if stored else EVERYTHING

    def narrow(self, value: object, use: Use) -> object:
        """Return the value if its JSON is equal to it."""
        if use is Use.STORED and not _is_json(value):
            raise Misfit(
                value,
                self,
                "Any holds None, bool, int, finite float, str, and lists and dicts of "
                f"these, at most {MAX_NESTING} levels deep; annotate the type that is "
                "meant",
            )
        return value


class AnyKey(Atom):
    """The key of a mapping that nothing is said about: a text once it is stored."""

    def __init__(self) -> None:
        """Take what JSON has."""
        super().__init__(str)

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept everything, until it is to be written."""
        return super().make_rule(stored=stored) if stored else EVERYTHING

    def narrow(self, value: object, use: Use) -> object:
        """Return the key if it is a text."""
        if use is Use.STORED and type(value) is not str:
            raise Misfit(value, self, "the keys of JSON are texts")
        return value


def _is_json(value: object, allowed: int = MAX_NESTING) -> bool:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return True
    if kind is float:
        return _is_finite(value)
    if not allowed:
        return False
    if kind is list:
        items = cast("list[object]", value)
        return all([_is_json(item, allowed - 1) for item in items])  # noqa: C419 - quicker
    if kind is dict:
        entries = cast("dict[object, object]", value)
        return all(
            type(key) is str and _is_json(item, allowed - 1)
            for key, item in entries.items()
        )
    return False


class Absent(Schema):
    """`msgspec.UnsetType`: a field that isn't written, and is read as its default."""

    json = frozenset()

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept the one value of the type."""
        del stored
        return Rule(msgspec.UnsetType, NOTHING.accepts)


class RawJson(Schema):
    """`msgspec.Raw`: JSON that is written as it is."""

    anything = True
    changeable = True

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept JSON."""
        return Rule(None if stored else msgspec.Raw, _is_raw if stored else _is_no_raw)


def _is_no_raw(_: object) -> bool:
    return False


def _is_raw(value: object) -> bool:
    if type(value) is not msgspec.Raw:
        return False
    body = bytes(value)
    try:
        return bytes(_raw_decoder.decode(body)) == body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


_raw_decoder = msgspec.json.Decoder(msgspec.Raw)


class Foreign(Schema):
    """A class or special form that JSON has no counterpart of."""

    changeable = True

    def __init__(self, annotation: object, reason: str) -> None:
        """Return the reason."""
        super().__init__(annotation)
        self.reason = reason

    def make_rule(self, *, stored: bool) -> Rule:
        """Accept instances of the class; every value if it isn't a class."""
        kind = typing.get_origin(self.annotation) or self.annotation
        if stored:
            return NOTHING
        if not isinstance(kind, type) or kind is object:
            return EVERYTHING
        if getattr(kind, "_is_protocol", False):
            return EVERYTHING
        return Rule(kind, lambda value: isinstance(value, kind))
