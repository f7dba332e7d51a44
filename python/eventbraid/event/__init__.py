"""Typed events: classes under stable names, encoded as JSON and decoded again."""

from __future__ import annotations

from eventbraid.event._define import event, register_event
from eventbraid.event._recorded import Recorded
from eventbraid.event._transcribe import (
    decode_event,
    encode_event,
    event_type,
    new_event,
)

__all__ = [
    "Recorded",
    "decode_event",
    "encode_event",
    "event",
    "event_type",
    "new_event",
    "register_event",
]
