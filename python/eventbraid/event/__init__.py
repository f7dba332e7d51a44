"""Typed events: classes under stable names, encoded as JSON and decoded again."""

from __future__ import annotations

from eventbraid._recorded import Recorded
from eventbraid._undecoded import OnUndecodable, UndecodedEvent
from eventbraid.event._body_codec import BodyCodec, BodyContext, codec_id
from eventbraid.event._decode_steps import plain_body
from eventbraid.event._decoder import EventDecoder
from eventbraid.event._define import add_codec, event, register_event, use_codec
from eventbraid.event._define_upcaster import upcaster
from eventbraid.event._event_schema import event_schema, schema_of_text, schema_text
from eventbraid.event._registry import EventRegistry, default_registry
from eventbraid.event._schema_changes import SchemaChange, schema_changes
from eventbraid.event._transcribe import (
    decode_event,
    encode_event,
    event_type,
    event_types,
    new_event,
)
from eventbraid.event._upcasting import UpcastEvent

__all__ = [
    "BodyCodec",
    "BodyContext",
    "EventDecoder",
    "EventRegistry",
    "OnUndecodable",
    "Recorded",
    "SchemaChange",
    "UndecodedEvent",
    "UpcastEvent",
    "add_codec",
    "codec_id",
    "decode_event",
    "default_registry",
    "encode_event",
    "event",
    "event_schema",
    "event_type",
    "event_types",
    "new_event",
    "plain_body",
    "register_event",
    "schema_changes",
    "schema_of_text",
    "schema_text",
    "upcaster",
    "use_codec",
]
