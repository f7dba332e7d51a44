"""The codec of a saga's state and of its steps' results: values to JSON and back.

A type whose values can't be decoded is refused when the saga is declared, not when it
is resumed. Steps get only decoded values, so they see the same values before and after
a restart. A value isn't decoded if decoding could only return an equal value.
"""

from __future__ import annotations

from datetime import date
from enum import Flag
from types import NoneType
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import msgspec

from eventbraid.domain._annotation import name_of
from eventbraid.domain._container_schema import Array, FixedTuple
from eventbraid.domain._record_schema import CHECKED, FieldsRecord
from eventbraid.domain._scalar_schema import Atom, Member, Named, OneOf
from eventbraid.domain._schema import (
    MAX_NESTING,
    Schema,
    is_changeable,
    problem,
    reachable,
)
from eventbraid.domain._schema_builder import schema_of
from eventbraid.domain._union_schema import Choice
from eventbraid.errors import InvalidSaga, InvalidValue
from eventbraid.event._codec import SchemaCodec
from eventbraid.event._wire import Wire
from eventbraid.saga._text import shown, text_of

T = TypeVar("T")

_LEVELS_AROUND = 4
"""The maximum levels of JSON around a state or a result in an event of a saga."""

_UNREAD: object = object()
_NOT_ENCODED = msgspec.Raw(b"")
# Values of these types are decoded to the same values. Values of other types may lose
# a detail although they stay equal, such as the name of a time zone.
_LOSSLESS = frozenset({NoneType, bool, int, float, str, bytes, UUID, date})


class UnfitValue(InvalidValue, TypeError):
    """A function of a saga returned a value that its declaration excludes."""


class Encoded(Generic[T]):
    """A value in its recorded form.

    Each read of a mutable value returns a new object, so that a reader can't see
    another reader's changes. An immutable value is decoded only once.

    Attributes:
        json: The value as JSON; empty if it is neither recorded nor copied.
    """

    __slots__ = ("_codec", "_unread", "json")

    def __init__(self, codec: Codec[T], json: msgspec.Raw, decoded: T) -> None:
        """Store a value and its decoded form, to which no other code may refer."""
        self.json = json
        self._codec = codec
        # The value; `_UNREAD` after the first read of a mutable value. Its type is
        # `Any`, because a `cast` costs a call at each read.
        self._unread: Any = decoded

    def read(self) -> T:
        """Return the value; a new object each time if it is mutable."""
        if self._codec.is_frozen:
            value: T = self._unread
            return value
        if self._unread is _UNREAD:
            return self._codec.decode(self.json)
        own: T = self._unread
        self._unread = _UNREAD
        return own


class Codec(Generic[T]):
    """Encodes the values of one type as JSON, and decodes them.

    Args:
        annotation: The type of the values.
        what: The name of the values in errors: ``"the result of step 'pay'"``.
        step: The step that they belong to; None if they are states.

    Raises:
        InvalidSaga: Values of this type can't be decoded.
    """

    __slots__ = (
        "_codec",
        "_is_lossless",
        "_is_valid",
        "annotation",
        "is_frozen",
        "what",
    )

    def __init__(
        self, annotation: object, *, what: str, step: str | None = None
    ) -> None:
        """Choose the encoding for the type."""
        self.annotation = annotation
        self.what = what
        try:
            schema = schema_of(annotation)
            found = problem(schema) or Wire(schema).problem()
            if found is not None:
                raise TypeError(": ".join(filter(None, found)))  # noqa: TRY301
            limit = MAX_NESTING - _LEVELS_AROUND
            # Sets and mappings are encoded in a fixed order, so that equal values
            # have equal bytes.
            self._codec = SchemaCodec(schema, limit, converts=True)
            self.is_frozen = not is_changeable(schema)
            self._is_lossless = (
                self.is_frozen
                and not self._codec.has_own_code
                and all(_is_lossless(one) for _, one in reachable(schema))
            )
            rule = schema.rule(stored=True)
            self._is_valid = rule.accepts if rule.exact is None else rule.allows
        except (TypeError, NameError) as error:
            raise InvalidSaga(
                f"{what} has the type {name_of(annotation)}, which couldn't be read "
                f"back from the log ({error}); use a dataclass, a Struct, a pydantic "
                "model or a built-in type",
                step=step,
            ) from error

    def encode(self, value: T) -> msgspec.Raw:
        """Encode a value as JSON.

        Raises:
            InvalidValue: The value isn't of the declared type, or would be read back
                as a different value.
        """
        return self.record(value).json

    def record(self, value: T) -> Encoded[T]:
        """Encode a value, and keep its decoded form for the steps.

        Raises:
            InvalidValue: The value isn't of the declared type, or would be read back
                as a different value.
        """
        if self._is_lossless and self._is_valid(value):
            try:
                json = msgspec.Raw(self._codec.encode_accepted(value))
            except Exception as error:
                raise self._unfit(value, error) from error
            return Encoded(self, json, value)
        json = self._encode(value)
        try:
            decoded = self.decode(json)
            is_kept = self._are_same(decoded, value)
        except Exception as error:
            raise self._unfit(value, error) from error
        if not is_kept:
            raise self._refusal(value, f"it would be read back as {shown(decoded)}")
        return Encoded(self, json, decoded)

    def keep(self, value: T) -> Encoded[T]:
        """Wrap a value that isn't recorded, because each resume computes it again.

        An immutable value is kept as it is; a mutable value is copied.

        Raises:
            InvalidValue: The value isn't of the declared type, or is of a mutable type
                and would be read back as a different value.
        """
        exact: Any = self.annotation
        if self.is_frozen and type(value) is exact and self._is_valid(value):
            return Encoded(self, _NOT_ENCODED, value)
        return self.record(value)

    def restore(self, raw: msgspec.Raw) -> Encoded[T]:
        """Decode a recorded value for the steps.

        Raises:
            ValueError: The JSON isn't a value of this type.
        """
        return Encoded(self, raw, self.decode(raw))

    def decode(self, raw: msgspec.Raw) -> T:
        """Decode a value from JSON.

        Raises:
            ValueError: The JSON isn't a value of this type.
        """
        try:
            return cast("T", self._codec.decode(bytes(raw)))
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(text_of(error)) from error

    def matches(self, value: T, raw: msgspec.Raw) -> bool:
        """Return whether a value is the same as a recorded one.

        Args:
            value: A value of the declared type.
            raw: The JSON of a recorded value.

        Raises:
            InvalidValue: The value isn't of the declared type.
        """
        encoded = self.record(value)
        if bytes(encoded.json) == bytes(raw):
            return True
        try:
            recorded = self.decode(raw)
        except ValueError:
            return False
        # The bytes are compared: True and 1 are equal values, but different states.
        return self._codec.encode(encoded.read()) == self._codec.encode(recorded)

    def _are_same(self, decoded: object, value: object) -> bool:
        """Return whether two values are equal or have the same encoding.

        Equality alone is too strict, because instances of a class may be compared by
        identity. Equal encodings alone are too strict, because 1 and 1.0 are equal.
        """
        try:
            if decoded == value:
                return True
        except Exception:  # noqa: BLE001, S110 - a class may refuse to be compared
            pass
        return self._codec.encode(decoded) == self._codec.encode(value)

    def _encode(self, value: object) -> msgspec.Raw:
        try:
            return msgspec.Raw(self._codec.encode(value))
        except Exception as error:
            raise self._unfit(value, error) from error

    def _unfit(self, value: object, error: Exception) -> InvalidValue:
        if not isinstance(error, InvalidValue):
            return self._refusal(value, f"JSON can't hold it: {text_of(error)}")
        name = name_of(self.annotation)
        is_whole = error.type == name
        inside = "" if is_whole else f", and {error}"
        return self._refusal(value, f"its type is {name}{inside}")

    def _refusal(self, value: object, bound: str) -> InvalidValue:
        remedy = "correct the annotation or the value"
        kind = self.what.removeprefix("the ")
        return InvalidValue(kind, shown(value), bound, remedy)


def _is_lossless(schema: Schema) -> bool:
    """Return whether decoding preserves a value, without regard to its members.

    If this is true of the schema and of the schemas of all members, no value needs to
    be decoded.
    """
    if isinstance(schema, Atom):
        return schema.kind in _LOSSLESS
    if isinstance(schema, Member):
        return not issubclass(schema.kind, Flag)
    if isinstance(schema, Choice):
        return sum(one.json != frozenset({"null"}) for one in schema.options) == 1
    if isinstance(schema, FieldsRecord):
        return not schema.arguments and _is_made_of_fields(schema.kind)
    return isinstance(schema, Named | OneOf | Array | FixedTuple)


def _is_made_of_fields(kind: type) -> bool:
    """Return whether an instance has no state besides its fields."""
    record: Any = kind
    if hasattr(kind, "__struct_config__"):
        return not record.__struct_config__.dict
    if "__dataclass_fields__" not in vars(kind) or hasattr(kind, "__attrs_attrs__"):
        return False
    is_generated = record.__dataclass_params__.init and "__post_init__" not in dir(kind)
    return (is_generated or CHECKED in vars(kind)) and all(
        field.init for field in record.__dataclass_fields__.values()
    )
