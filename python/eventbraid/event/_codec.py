"""How a class's instances become JSON and come back, decided once a class."""

from __future__ import annotations

import contextlib
import functools
import math
import typing
from typing import TYPE_CHECKING, Any, cast

import msgspec
import orjson

from eventbraid.domain._annotation import Unresolved, field_names, has_fields, is_model
from eventbraid.domain._container_schema import Map
from eventbraid.domain._fields import REWRITING
from eventbraid.domain._invalid_value import shown, shown_argument
from eventbraid.domain._misfit import misfit_error
from eventbraid.domain._model_schema import ModelRecord
from eventbraid.domain._record_schema import (
    CHECKED,
    FieldsRecord,
    Record,
    TypedDictRecord,
    may_assign,
    own_post_init,
)
from eventbraid.domain._same import is_same
from eventbraid.domain._scalar_schema import Absent, Atom, Named
from eventbraid.domain._schema import (
    MAX_NESTING,
    Misfit,
    Schema,
    Use,
    depth,
    is_changeable,
    is_plain,
    problem,
    reachable,
)
from eventbraid.domain._schema_builder import schema_of
from eventbraid.errors import InvalidArgument, InvalidEventType
from eventbraid.event._nesting import is_too_deep
from eventbraid.event._wire import Wire, from_json, is_set, prime, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    Encode = Callable[[Any], bytes]
    Decode = Callable[[bytes], Any]

TOO_DEEP = (
    f"its JSON is nested more than {MAX_NESTING} levels deep; keep deep structures "
    "flat, as lists of parts that name each other"
)


def codec_of(kind: type) -> ClassCodec:
    """Return the codec of an event class.

    Raises:
        InvalidEventType: Not every instance of the class could be read back.
    """
    if not has_fields(kind) and not is_model(kind):
        raise InvalidEventType("event class", kind.__qualname__, _remedy(kind))
    # A class that names one that is defined later is judged at its first use.
    with contextlib.suppress(Unresolved):
        _refuse_unreadable(kind, schema_of(kind))
    return ClassCodec(kind)


def _remedy(kind: type) -> str:
    if typing.is_typeddict(kind):
        return (
            "an instance of a TypedDict is a dict, which doesn't name its class; make "
            "it the type of a field of an event class"
        )
    if hasattr(kind, "_fields"):
        return (
            "a NamedTuple has no names in JSON, so its fields couldn't change; make it "
            "the type of a field of an event class, or use @event"
        )
    return (
        "it is not a dataclass, msgspec Struct, attrs class or pydantic model; use "
        "@event, which makes a dataclass of a plain class"
    )


class ClassCodec:
    """The codec of a class, made at its first use.

    Annotations may name classes that are defined later.
    """

    def __init__(self, kind: type) -> None:
        """Take the class."""
        self._kind = kind

    @functools.cached_property
    def _made(self) -> SchemaCodec:
        schema = schema_of(self._kind)
        _refuse_unreadable(self._kind, schema)
        try:
            return SchemaCodec(schema)
        except (TypeError, NotImplementedError) as error:
            raise InvalidEventType(
                "event class",
                self._kind.__qualname__,
                f"what it holds can't be read back: {error}",
            ) from error

    @functools.cached_property
    def encode(self) -> Encode:
        """Make bytes of an event."""
        return self._made.encode

    @functools.cached_property
    def decode(self) -> Decode:
        """Make an event of bytes."""
        return self._made.decode


def _refuse_unreadable(kind: type, schema: Schema) -> None:
    found = problem(schema) or Wire(schema).problem()
    if found is not None:
        path, reason = found
        raise InvalidEventType(
            "event class",
            f"{kind.__qualname__}{path}",
            f"what it holds couldn't be read back: {reason}",
        )


class SchemaCodec:
    """The codec of a schema, built from what the schema leaves open.

    msgspec decodes and checks in one pass. orjson encodes values that are subclasses of
    `int` and `str` without a call into Python, so it writes the classes that it writes
    exactly as msgspec reads them. An event whose class has checked it, and which can't
    have changed since, is not checked again.

    Args:
        schema: What is encoded; `problem` has found nothing.
        limit: The number of JSON levels that are allowed.
        converts: Whether the value that is read back is used instead of the one that
            was given. What `Any` holds may then become what JSON has: a list for a
            tuple. Sets are sorted, and keys too, so that equal values give equal bytes
            in each process.
    """

    def __init__(
        self, schema: Schema, limit: int = MAX_NESTING, *, converts: bool = False
    ) -> None:
        """Build the functions.

        Raises:
            TypeError: msgspec refuses the type.
        """
        self._schema = schema
        self._limit = limit
        self._converts = converts
        self._wire = Wire(schema)
        for _, one in reachable(schema):
            for name in one.names():
                prime(name)
        nesting = depth(schema)
        self._is_bounded = nesting is not None and nesting <= limit
        self._watched = frozenset(
            one.kind
            for _, one in reachable(schema)
            if isinstance(one, FieldsRecord) and may_assign(one.kind)
        )
        self._must_confirm = any(_computes(kind) for kind in self._watched) or any(
            isinstance(one, Absent) or _may_change_members(one)
            for _, one in reachable(schema)
        )
        self.decode: Decode = self._decoder()
        self.encode_accepted: Encode = self._encoder()
        self.encode: Encode = self._checking_encoder()

    @property
    def has_own_code(self) -> bool:
        """Whether code of a class's author may change what is read back."""
        return bool(self._watched) or self._must_confirm

    # --- decoding

    def _decoder(self) -> Decode:
        decode = self._unbounded_decoder()
        if self._is_bounded:
            return decode
        limit = self._limit

        def decode_bounded(data: bytes) -> object:
            if is_too_deep(data, limit):
                raise ValueError(TOO_DEEP)
            return decode(data)

        return decode_bounded

    def _unbounded_decoder(self) -> Decode:
        schema, wire = self._schema, self._wire
        if isinstance(schema, ModelRecord):
            return schema.decode
        if isinstance(schema, FieldsRecord) and not wire.is_native:
            mirror, build = wire.mirror(schema)
            decode_mirror = _decoder_of(mirror)
            return lambda data: build(decode_mirror(data))
        return _decoder_of(wire.type_of(schema))

    # --- encoding

    def _encoder(self) -> Encode:
        """Return what encodes values that the rule for stored values accepts."""
        encode = self._limited(self._writer())
        return self._confirmed(encode) if self.has_own_code else encode

    def _checking_encoder(self) -> Encode:
        encode, schema = self.encode_accepted, self._schema
        trusted = isinstance(schema, FieldsRecord) and schema.is_checked
        if trusted and not is_changeable(schema):
            return encode
        return self._verified(encode)

    def _writer(self) -> Encode:
        encode, decode = self._any_writer(), self.decode
        if encode is None:
            encode_rest = _with_readable_numbers(_encoder.encode, decode)

            def encode_quickly(value: object) -> bytes:
                try:
                    return orjson.dumps(value)
                except orjson.JSONEncodeError:
                    # A number beyond 64 bits, or a key of our own.
                    return encode_rest(value)

            return encode_quickly
        if any(_is_unbounded_int(one) for _, one in reachable(self._schema)):
            return _with_readable_numbers(encode, decode)
        return encode

    def _any_writer(self) -> Encode | None:
        schema = self._schema
        if self._converts:
            return stable_encoder(schema)
        if isinstance(schema, ModelRecord):
            return schema.encode
        if any(is_set(one) for _, one in reachable(schema)):
            return _set_sorting_encoder(schema)
        write = self._wire.writer(schema)
        if write is not None:
            return lambda value: _encoder.encode(write(value))
        if self._is_bounded and isinstance(schema, Record) and is_plain(schema):
            return None  # orjson writes it.
        # orjson doesn't count every level, and writes beyond its memory if there are
        # many; msgspec raises RecursionError.
        return _encoder.encode

    def _limited(self, encode: Encode) -> Encode:
        if self._is_bounded:
            return encode
        limit = self._limit

        def encode_bounded(value: object) -> bytes:
            try:
                data = encode(value)
            except RecursionError:
                data = None
            if data is None or is_too_deep(data, limit):
                raise InvalidArgument("event", shown_argument(value), TOO_DEEP)
            return data

        return encode_bounded

    def _confirmed(self, encode: Encode) -> Encode:
        """Read back what depends on code that runs whenever an instance is made."""
        watched, always, decode = self._watched, self._must_confirm, self.decode

        def encode_and_read_back(value: object) -> bytes:
            data = encode(value)
            if always or not watched.isdisjoint(REWRITING):
                again = decode(data)
                if not is_same(again, value):
                    raise InvalidArgument(
                        "event",
                        shown_argument(value),
                        f"it would be read back as {shown(again)}; __post_init__ runs "
                        "again then, and must come to the same values",
                    )
            return data

        return encode_and_read_back

    def _verified(self, encode: Encode) -> Encode:
        """Check what its class hasn't checked, or what may have changed since."""
        schema = self._schema
        rule = schema.rule(stored=not self._converts)
        exact, accepts = rule.exact, rule.accepts
        use = Use.MADE if self._converts else Use.STORED
        if self._converts and any(one.anything for _, one in reachable(schema)):
            encode = _refusing_lost_numbers(encode)

        def check_and_encode(value: object) -> bytes:
            try:
                # `Rule.allows` inline: this is asked of each event that is appended.
                if type(value) is not exact and not accepts(value):
                    value = schema.narrow(value, use)
            except Misfit as misfit:
                raise _refusal(schema, value, misfit) from None
            except RecursionError:
                raise InvalidArgument(
                    "event", shown_argument(value), TOO_DEEP
                ) from None
            return encode(value)

        return check_and_encode


def _refusing_lost_numbers(encode: Encode) -> Encode:
    """Refuse NaN and infinity inside of `Any`: they would become null."""

    def encode_numbers(value: object) -> bytes:
        data = encode(value)
        if b"null" in data and _has_lost_number(value):
            raise InvalidArgument(
                "value", shown_argument(value), "JSON has neither NaN nor infinity"
            )
        return data

    return encode_numbers


def _has_lost_number(value: object) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        entries = cast("dict[object, object]", value)
        return any(map(_has_lost_number, entries.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_has_lost_number, cast("list[object]", value)))
    kind: type = type(value)
    return has_fields(kind) and any(
        _has_lost_number(getattr(value, name, None)) for name in field_names(kind)
    )


def _refusal(schema: Schema, value: object, misfit: Misfit) -> Exception:
    """Name the field that doesn't fit."""
    name, annotation = schema.name, schema.annotation
    held = value
    if isinstance(schema, Record) and misfit.path.startswith("."):
        field, _, rest = misfit.path[1:].partition(".")
        field, bracket, index = field.partition("[")
        fields = dict(schema.fields)
        if field in fields:
            name = f"{name}.{field}"
            annotation = fields[field].annotation
            held = getattr(value, field)
            misfit.path = f"{bracket}{index}" + (f".{rest}" if rest else "")
    return misfit_error(name, held, annotation, misfit)


def _may_change_members(schema: Schema) -> bool:
    """Return whether code of the class's author could add to a list, for example."""
    return (
        isinstance(schema, FieldsRecord)
        and own_post_init(schema.kind) is not None
        and is_changeable(schema)
    )


def _computes(kind: type) -> bool:
    """Return whether it is certain that the author's code sets fields, or unknown."""
    if CHECKED not in vars(kind):
        return True
    fields: dict[str, Any] = cast("Any", kind).__dataclass_fields__
    return any(not field.init for field in fields.values())


def _decoder_of(kind: object) -> Decode:
    decoder = msgspec.json.Decoder(cast("Any", kind), dec_hook=from_json)
    return cast("Decode", decoder.decode)


_encoder = msgspec.json.Encoder(enc_hook=to_json)
_sorting_encoder = msgspec.json.Encoder(enc_hook=to_json, order="deterministic")


def _with_readable_numbers(encode: Encode, decode: Decode) -> Encode:
    """Refuse whole numbers with more digits than can be read back.

    msgspec counts the sign among the digits when it decodes. Digits may also be a text,
    so a long run of them is decoded to find out.
    """

    def encode_numbers(value: object) -> bytes:
        data = encode(value)
        if len(data) > _DIGITS and _has_long_number(data):
            decode(data)
        return data

    return encode_numbers


def _is_unbounded_int(schema: Schema) -> bool:
    if schema.anything:
        return True
    return "int" in schema.json and isinstance(schema, Atom | Named)


_DIGITS = 2_048


def _has_long_number(data: bytes) -> bool:
    # A run of twice as many digits contains one of these pieces as a whole.
    pieces = range(0, len(data), _DIGITS)
    return any(data[at : at + _DIGITS].isdigit() for at in pieces)


def _set_sorting_encoder(schema: Schema) -> Encode:
    """Return what writes the members of sets in one order.

    A set iterates in an order of its process, so that a retry in another process would
    be refused as a request with other content. Mappings keep their order, which is the
    same when they are read back.
    """
    keeps_order = any(
        isinstance(one, Map | TypedDictRecord) or one.anything
        for _, one in reachable(schema)
    )
    if not keeps_order and Wire(schema, sorts=True).is_native:
        return _sorting_encoder.encode
    write = Wire(schema, sorts=True, sorts_all=True).writer(schema)
    return lambda value: _encoder.encode(cast("Any", write)(value))


def stable_encoder(schema: Schema) -> Encode:
    """Return what makes JSON that is the same for equal values in each process."""
    write = Wire(schema, sorts=True).writer(schema)
    return stable_json if write is None else lambda value: stable_json(write(value))


def stable_json(value: object) -> bytes:
    """Return the JSON of a value, with sorted keys."""
    try:
        return _sorting_encoder.encode(value)
    except TypeError:  # A key that isn't text, which this encoder can't sort.
        plain = msgspec.to_builtins(
            value, str_keys=True, order="deterministic", enc_hook=to_json
        )
        return _sorting_encoder.encode(plain)
