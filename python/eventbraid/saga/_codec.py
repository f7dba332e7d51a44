"""How a saga's state and the results of its steps become JSON and come back.

What can't be read back is refused when the saga is built, not when it is resumed.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

import msgspec
from msgspec import inspect as shapes

from eventbraid.domain import Id, Int, Text
from eventbraid.domain._annotation import name_of
from eventbraid.domain._rule import rule_of
from eventbraid.errors import InvalidSaga, InvalidValue
from eventbraid.event._codec import PydanticCodec, from_json, to_json

T = TypeVar("T")

_OURS = (Int, Id, Text)
_encoder = msgspec.json.Encoder(enc_hook=to_json)
_canonical = msgspec.json.Encoder(enc_hook=to_json, order="deterministic")


class Codec(Generic[T]):
    """From values of one annotation to JSON and back.

    Args:
        annotation: The type of the values.
        what: What the values are, for errors: ``"the result of step 'pay'"``.
        step: The step that they belong to, if it is one.

    Raises:
        InvalidSaga: Values of this type couldn't be read back.
    """

    __slots__ = ("_allows", "_decode", "_encode", "annotation", "what")

    def __init__(
        self, annotation: object, *, what: str, step: str | None = None
    ) -> None:
        """Choose how the values are encoded."""
        self.annotation = annotation
        self.what = what
        try:
            self._encode, self._decode = _functions(annotation)
            self._allows = rule_of(annotation).allows
        except (TypeError, NameError) as error:
            raise InvalidSaga(
                f"{what} has the type {name_of(annotation)}, which couldn't be read "
                f"back from the log ({error}); use a dataclass, a Struct, a pydantic "
                "model or a built-in type",
                step=step,
            ) from error

    def encode(self, value: T) -> msgspec.Raw:
        """Make JSON of a value.

        Raises:
            InvalidValue: The value isn't of the declared type.
        """
        if not self._allows(value):
            raise InvalidValue(
                self.what,
                repr(value)[:80],
                f"its type is {name_of(self.annotation)}",
                "correct the annotation or the value",
            )
        return msgspec.Raw(self._encode(value))

    def decode(self, raw: msgspec.Raw) -> T:
        """Make a value of JSON.

        Raises:
            ValueError: The JSON isn't a value of this type.
        """
        return cast("T", self._decode(bytes(raw)))

    def matches(self, value: T, raw: msgspec.Raw) -> bool:
        """Return whether encoding the value would record the same content.

        Objects without an equality of their own, and sets, whose order differs from
        process to process, are compared by what is recorded of them.

        Args:
            value: A value of the declared type.
            raw: The JSON of a recorded value.

        Raises:
            InvalidValue: The value isn't of the declared type.
        """
        try:
            recorded = self.decode(raw)
        except ValueError:
            return False
        return self._canonical(value) == self._canonical(recorded)

    def _canonical(self, value: T) -> bytes:
        # Decoded again from its own JSON, a value has the same types as a recorded one.
        return _canonical.encode(self.decode(self.encode(value)))


_Encode = Callable[[object], bytes]
_Decode = Callable[[bytes], object]


def _functions(annotation: object) -> tuple[_Encode, _Decode]:
    if inspect.isclass(annotation) and hasattr(annotation, "__pydantic_validator__"):
        codec = PydanticCodec(annotation)
        return codec.encode, codec.decode
    kind = cast("type[object]", annotation)
    for stranger in _strangers(shapes.type_info(kind)):
        raise TypeError(f"{stranger.__qualname__} has no JSON of its own")
    return _encoder.encode, msgspec.json.Decoder(kind, dec_hook=from_json).decode


def _strangers(shape: object) -> Iterator[type]:
    """Find the classes inside of a type that nothing here can read back."""
    seen: set[int] = set()
    todo = [shape]
    while todo:
        found = todo.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, shapes.CustomType):
            origin = typing.get_origin(found.cls) or found.cls
            if not issubclass(origin, _OURS):
                yield origin
        todo.extend(_inside(found))


def _inside(shape: object) -> Iterator[object]:
    for name in getattr(shape, "__struct_fields__", ()):
        held = getattr(shape, name)
        if isinstance(held, tuple):
            yield from cast("tuple[object, ...]", held)
        elif isinstance(held, shapes.Type | shapes.Field):
            yield held
