"""How a class's instances become JSON and come back, decided once a class."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import msgspec
import orjson

from eventbraid.domain._annotation import has_fields
from eventbraid.domain._fields import check_fields
from eventbraid.domain._id import Id
from eventbraid.domain._int import Int
from eventbraid.domain._rule import CHECKED
from eventbraid.domain._text import Text
from eventbraid.errors import InvalidEventType
from eventbraid.event._plain import is_plain_class

if TYPE_CHECKING:
    from collections.abc import Callable

    Encode = Callable[[object], bytes]
    Decode = Callable[[bytes], object]


def codec_of(kind: type) -> Codec:
    """Choose the codec of a class.

    Raises:
        InvalidEventType: Nothing here knows how to store such a class.
    """
    if hasattr(kind, "__pydantic_validator__"):
        return PydanticCodec(kind)
    if has_fields(kind):
        return FieldsCodec(kind)
    raise InvalidEventType(
        "event class",
        kind.__qualname__,
        "it is no dataclass, msgspec Struct, attrs class or pydantic model; "
        "use @event, which makes a dataclass of a plain class",
    )


@dataclass
class FieldsCodec:
    """Dataclasses, Structs and attrs classes.

    msgspec decodes and checks in one pass. orjson encodes the values that are ours
    (subclasses of `int` and `str`) without calling back into Python, so it does the
    classes that it writes exactly as msgspec reads them. What a class means is found
    out at its first use, not before: annotations may name classes defined later.
    """

    kind: type

    @functools.cached_property
    def decode(self) -> Decode:
        """Give the function that makes an event of bytes."""
        return msgspec.json.Decoder(self.kind, dec_hook=from_json).decode

    @functools.cached_property
    def encode(self) -> Encode:
        """Give the function that makes bytes of an event."""
        encode = _orjson_first if is_plain_class(self.kind) else _encoder.encode
        if CHECKED in self.kind.__dict__:
            return encode

        def check_and_encode(event: object) -> bytes:
            check_fields(event)
            return encode(event)

        return check_and_encode


@dataclass
class PydanticCodec:
    """Pydantic's models and dataclasses."""

    kind: type

    @functools.cached_property
    def _adapter(self) -> _Adapter:
        from pydantic import TypeAdapter  # noqa: PLC0415 - an optional dependency

        return cast("_Adapter", TypeAdapter(self.kind))

    @functools.cached_property
    def decode(self) -> Decode:
        """Give the function that makes an event of bytes."""
        return self._adapter.validate_json

    @functools.cached_property
    def encode(self) -> Encode:
        """Give the function that makes bytes of an event."""
        adapter = self._adapter

        def encode_and_check(event: object) -> bytes:
            # A model can be changed, or made by model_construct, behind its own back.
            data = adapter.dump_json(event, warnings="error")
            adapter.validate_json(data)
            return data

        return encode_and_check


Codec: TypeAlias = FieldsCodec | PydanticCodec
"""From an event to bytes and back."""


class _Adapter(Protocol):
    def dump_json(self, instance: object, /, *, warnings: str) -> bytes: ...
    def validate_json(self, data: bytes, /) -> object: ...


def to_json(value: object) -> int | str:
    """Encode a domain value as what it is made of."""
    if isinstance(value, Int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    raise NotImplementedError(f"{type(value).__qualname__} can't be stored as JSON")


def from_json(kind: type, value: object) -> object:
    """Decode a domain value, or refuse."""
    make = _makers.get(kind)
    return _learnt_maker(kind)(value) if make is None else make(value)


_makers: dict[type, Callable[[object], object]] = {}


def _learnt_maker(kind: type) -> Callable[[object], object]:
    if not issubclass(kind, Int | Id | Text):
        raise NotImplementedError(f"{kind.__qualname__} can't be read from JSON")
    make = cast("Callable[[object], object]", kind)
    return _makers.setdefault(kind, make)


_encoder = msgspec.json.Encoder(enc_hook=to_json)


def _orjson_first(event: object) -> bytes:
    try:
        return orjson.dumps(event)
    except orjson.JSONEncodeError:  # A number beyond 64 bits, or a key of our own.
        return _encoder.encode(event)
