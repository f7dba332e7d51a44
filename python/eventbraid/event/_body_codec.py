"""Codecs of bodies: compression, encryption, and formats other than JSON.

An encoded body has a header with the id of its codec, so that each event can be read as
long as a program has that codec, whatever codec new events are encoded with.

The first byte of the header occurs in neither UTF-8 nor JSON. A body that isn't encoded
therefore needs no test: it is decoded as JSON, and only if that fails is its first byte
looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

from eventbraid.domain._annotation import is_defined_again
from eventbraid.domain._invalid_value import shown, shown_argument
from eventbraid.errors import InvalidArgument

_MARK = b"\xc1\x01"
"""A byte that no UTF-8 contains, and the version of the header."""

_ID_AT = 3
"""The offset of the id, after the mark and a byte with the id's length."""

ID_BYTES_LIMIT = 64
"""The maximum length of a codec's id, in bytes of UTF-8."""


@dataclass(frozen=True, slots=True)
class BodyContext:
    """The event whose body a codec encodes or decodes.

    All attributes are the same when the body is encoded and when it is decoded, so that
    a cipher can authenticate them, and can have a key for each stream.

    Attributes:
        stream: The id of the event's stream.
        type: The event type.
        schema_version: The version of the schema.

    Example:
        >>> from eventbraid.event import BodyContext
        >>> BodyContext("customer-7", "customer.registered", 1).stream
        'customer-7'
    """

    stream: str
    type: str
    schema_version: int


class BodyCodec(Protocol):
    """Encodes the JSON of events before it is stored, and decodes it again.

    Eventbraid calls `decode` once for each event that it encodes, and refuses the event
    if the result is not the body that was given to `encode`. Both methods may be called
    by several threads at the same time.

    Example:
        >>> import zlib
        >>> import eventbraid as eb
        >>> from eventbraid.event import codec_id
        >>> class Zlib:
        ...     id = "zlib"
        ...
        ...     def encode(self, body, context):
        ...         return zlib.compress(body)
        ...
        ...     def decode(self, body, context):
        ...         return zlib.decompress(body)
        >>> @eb.event("doc.report.filed", codec=Zlib())
        ... class ReportFiled:
        ...     text: str
        >>> new = eb.new_event("report-1", ReportFiled("so " * 1000))
        >>> len(new.data) < 100
        True
        >>> codec_id(new.data)
        'zlib'
    """

    @property
    def id(self) -> str:
        """The id that each encoded event contains, such as ``"zlib"``.

        It never changes its meaning: a codec with another key or format has another id.
        """
        ...

    def encode(self, body: bytes, context: BodyContext, /) -> bytes:
        """Return the encoded form of a body."""
        ...

    def decode(self, body: bytes, context: BodyContext, /) -> bytes:
        """Return the body of which `encode` made this encoded form."""
        ...


def validated(codec: object) -> BodyCodec:
    """Return a codec after validating its id and its methods.

    Raises:
        InvalidArgument: It isn't a codec, or its id can't be stored.
    """
    if isinstance(codec, type):
        raise InvalidArgument(
            "codec",
            codec.__qualname__,
            f"it is a class; pass an instance: {codec.__qualname__}(...)",
        )
    for method in ("encode", "decode"):
        if not callable(getattr(codec, method, None)):
            raise InvalidArgument(
                "codec",
                shown_argument(codec),
                f"it has no method {method}(body, context); see "
                "eventbraid.event.BodyCodec",
            )
    _validate_id(getattr(codec, "id", None))
    return cast("BodyCodec", codec)


def _validate_id(written: object) -> None:
    if not isinstance(written, str):
        raise InvalidArgument(
            "codec id", shown_argument(written), 'it must be a str, such as id = "zlib"'
        )
    if not written.isprintable() or " " in written:
        raise InvalidArgument(
            "codec id",
            shown_argument(written),
            "it must have printable characters only, and no space",
        )
    if not 1 <= len(written.encode()) <= ID_BYTES_LIMIT:
        raise InvalidArgument(
            "codec id",
            written,
            f"it has {len(written.encode())} bytes of UTF-8, expected 1 to "
            f"{ID_BYTES_LIMIT}; use a shorter id",
        )


def encoded_body(codec: BodyCodec, body: bytes, context: BodyContext) -> bytes:
    """Encode a body, and put the header before it.

    An exception of the codec is not wrapped: a key that can't be fetched is neither an
    invalid event nor a fault of the store, and the caller may want to try again.

    Raises:
        InvalidArgument: The codec returned something other than bytes.
    """
    try:
        encoded = _bytes_of(codec.encode(body, context), codec, "encode")
    except Exception as error:
        error.add_note(
            f"raised while the codec {codec.id!r} encoded a {context.type!r} event of "
            f"{context.stream!r}; nothing was written"
        )
        raise
    name = codec.id.encode()
    return b"".join((_MARK, bytes((len(name),)), name, encoded))


def _bytes_of(result: object, codec: BodyCodec, method: str) -> bytes:
    if isinstance(result, bytes):
        return result
    if isinstance(result, bytearray | memoryview):
        return bytes(cast("Any", result))
    raise InvalidArgument(
        "codec",
        codec.id,
        f"its method {method} returned {shown(result)}, and must return bytes",
    )


def decoded_body(codec: BodyCodec, data: bytes, context: BodyContext) -> bytes:
    """Remove the header of an encoded body, and decode the rest.

    Raises:
        Exception: The codec's own exception.
        InvalidArgument: The codec returned something other than bytes.
    """
    rest = data[_ID_AT + data[_ID_AT - 1] :]
    return _bytes_of(codec.decode(rest, context), codec, "decode")


def codec_id(data: bytes, /) -> str | None:
    """Return the id of the codec that a stored body was encoded with.

    Args:
        data: The data of a recorded event.

    Returns:
        The id; None if the body isn't encoded.

    Example:
        >>> from eventbraid.event import codec_id
        >>> codec_id(b'{"text":"plain"}') is None
        True
    """
    if data[:2] != _MARK or len(data) < _ID_AT:
        return None
    name = data[_ID_AT : _ID_AT + data[_ID_AT - 1]]
    if not name or len(name) != data[_ID_AT - 1]:
        return None
    try:
        found = name.decode()
    except UnicodeDecodeError:
        return None
    return found if found.isprintable() else None


class BodyCodecs:
    """The codecs that a registry has, by their ids."""

    __slots__ = ("_by_id",)

    def __init__(self) -> None:
        """Begin without codecs."""
        self._by_id: dict[str, BodyCodec] = {}

    def add(self, codec: BodyCodec, *, replace: bool = False) -> bool:
        """Add a codec, so that bodies with its id can be decoded.

        Returns:
            Whether bodies may be decoded differently from then on.

        Raises:
            InvalidArgument: It isn't a codec, or another codec has the same id.
        """
        codec = validated(codec)
        known = self._by_id.get(codec.id)
        is_same = known is not None and _are_same(known, codec)
        if known is not None and not replace and not is_same:
            raise InvalidArgument(
                "codec id",
                codec.id,
                f"{shown(known)} already has it; use that instance, or give a codec "
                "with another key or format another id, or pass replace=True to "
                "add_codec if both decode the same bodies",
            )
        self._by_id[codec.id] = codec
        return not is_same

    def get(self, written: str) -> BodyCodec | None:
        """Return the codec with this id, if there is one."""
        return self._by_id.get(written)


def _are_same(one: BodyCodec, other: BodyCodec) -> bool:
    """Return whether two codecs are surely the same, so that one can replace the other.

    So ``codec=Zlib()`` may be written at several classes, and a notebook's cell with
    the class of a codec may be run again.
    """
    if one is other or one == other:
        return True
    kind, other_kind = type(one), type(other)
    is_same_class = kind is other_kind or is_defined_again(kind, other_kind)
    return is_same_class and bool(one.__getstate__() == other.__getstate__())
