"""Typed events: classes under stable names, encoded as JSON and decoded again."""

from __future__ import annotations

from eventbraid.event._decoder import EventDecoder, OnUndecodable, UndecodedEvent
from eventbraid.event._define import event, register_event
from eventbraid.event._define_upcaster import upcaster
from eventbraid.event._recorded import Recorded
from eventbraid.event._registry import EventRegistry
from eventbraid.event._transcribe import (
    decode_event,
    encode_event,
    event_type,
    event_types,
    new_event,
)
from eventbraid.event._upcasting import UpcastEvent

__all__ = [
    "EventDecoder",
    "EventRegistry",
    "OnUndecodable",
    "Recorded",
    "UndecodedEvent",
    "UpcastEvent",
    "decode_event",
    "encode_event",
    "event",
    "event_type",
    "event_types",
    "new_event",
    "register_event",
    "upcaster",
]
