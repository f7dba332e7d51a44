"""Encodes the facts behind a rejection as JSON of limited size, for a record."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from eventbraid.domain import Int
from eventbraid.saga._text import safe_text, shortened
from eventbraid.saga.machine._events import NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Every store must accept the record of a failure. The nesting is limited because the
# decoder recurses, and may be called when the call stack is already deep.
_MAXIMUM_BYTES = 64 * 1024
_MAXIMUM_LEVELS = 32
_MAXIMUM_FACTS = 50
_MAXIMUM_NAME = 100
_MAXIMUM_TEXT = 500
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


def encode_facts(facts: Mapping[str, object]) -> msgspec.Raw:
    """Encode facts as JSON; a fact whose type has no JSON form becomes text.

    If the facts together are too large, nested too deeply or can't be encoded, each
    fact is encoded by itself. A fact that is still too large, nested too deeply or
    can't be encoded becomes a shortened text.
    """
    if not facts:
        return NOTHING
    whole = _encode(facts, _MAXIMUM_BYTES)
    if whole is not None:
        return whole
    kept: dict[str, msgspec.Raw] = {}
    room = _MAXIMUM_BYTES
    for name, fact in islice(facts.items(), _MAXIMUM_FACTS):
        encoded = _encode(fact, room)
        if encoded is None:
            text = shortened(fact, _MAXIMUM_TEXT)
            encoded = msgspec.Raw(_encoder.encode(text))
        kept[shortened(name, _MAXIMUM_NAME)] = encoded
        room -= len(bytes(encoded))
    return msgspec.Raw(_encoder.encode(kept))


def _encode(value: object, maximum: int) -> msgspec.Raw | None:
    try:
        data = _encoder.encode(value)
    except Exception:  # noqa: BLE001 - a fact may be any object; the caller records it as text
        return None
    if len(data) > maximum or _levels(data) > _MAXIMUM_LEVELS:
        return None
    return msgspec.Raw(data)


def _levels(data: bytes) -> int:
    """Return the nesting depth of JSON, or 0 if it can't exceed the limit."""
    if data.count(b"[") + data.count(b"{") <= _MAXIMUM_LEVELS:
        return 0
    deepest = level = 0
    for byte in _STRING.sub(b"", data):
        if byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


def _as_json(value: object) -> object:
    if isinstance(value, Int):
        return int(value)
    return safe_text(value)


_encoder = msgspec.json.Encoder(enc_hook=_as_json)
