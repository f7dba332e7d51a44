"""The limits of the contract, which the store on SQLite validates before it writes."""

from __future__ import annotations

import json
import unicodedata

import eventbraid as eb

NAME = 255
METADATA = 64 * 1024
DATA = 8 * 1024 * 1024
COMMIT = 16 * 1024 * 1024
STREAMS = EXPECTATIONS = 10_000


def checked(events, expect, key, expect_categories):
    """Return the validated events and expectations of an append."""
    events = [_event(event) for event in _iterable("events", events)]
    expect = dict(_mapping(expect if expect is not None else {}))
    expect_categories = dict(
        _mapping(expect_categories if expect_categories is not None else {})
    )
    if not events and not expect and not expect_categories and key is None:
        raise eb.errors.InvalidArgument("append", "", "has nothing to do")
    if key is not None:
        check_key(key)
    expected = len(expect) + len(expect_categories)
    _within("the expectations of a commit", expected, EXPECTATIONS)
    for event in events:
        if not event.is_system:
            _refuse_system(event.stream)
    for stream, expected in expect.items():
        check_stream(stream)
        _check_expectation(expected)
    for category, expected in expect_categories.items():
        check_category(category)
        _check_expectation(expected)
    sizes = [_size(event) for event in events]
    _within("the bytes of a commit", sum(sizes), COMMIT)
    written = {event.stream for event in events}
    _within("the streams of a commit", len(written), STREAMS)
    return events, expect, expect_categories


def check_stream(stream):
    """Validate a stream id."""
    _check_name("stream", stream, eb.errors.InvalidStreamId)
    if any(unicodedata.category(character) == "Cc" for character in stream):
        raise eb.errors.InvalidStreamId("stream", stream, "holds a control character")


def check_category(category):
    """Validate a category: the part of a stream id before the first dash."""
    _check_name("category", category, eb.errors.InvalidArgument)
    if any(c == "-" or unicodedata.category(c) == "Cc" for c in category):
        raise eb.errors.InvalidArgument("category", category, "no stream can have it")


def _refuse_system(stream):
    """Refuse appends to the streams of the library."""
    if stream.startswith("$"):
        raise eb.errors.InvalidStreamId("stream", stream, "is reserved for the library")


def check_key(key):
    """Validate an idempotency key."""
    _check_name("idempotency key", key, eb.errors.InvalidArgument)


def check_bounds(**bounds):
    """Refuse cursors and limits below 0."""
    for name, bound in bounds.items():
        if bound is not None and not 0 <= bound < 2**63:
            raise eb.errors.InvalidArgument(name, str(bound), "is out of range")


def names(streams):
    """Return the validated ids of streams to read."""
    found = list(_iterable("streams", streams))
    for stream in found:
        check_stream(stream)
    return found


def _event(event):
    if isinstance(event, tuple):
        event = eb.NewEvent(*event)
    if not isinstance(event, eb.NewEvent):
        message = f"{event!r} is no event"
        raise TypeError(message)
    return event


def _size(event):
    check_stream(event.stream)
    _check_name("event type", event.type, eb.errors.InvalidEventType)
    text = json.dumps(dict(event.metadata), ensure_ascii=False, separators=(",", ":"))
    metadata = len(text.encode()) if event.metadata else 0
    _within("the bytes of an event's data", len(event.data), DATA)
    _within("the bytes of an event's metadata", metadata, METADATA)
    return len(event.type.encode()) + len(event.data) + metadata


def _check_name(what, name, kind):
    if not isinstance(name, str):
        message = f"the {what} must be a str"
        raise TypeError(message)
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise kind(what, ascii(name), "has no UTF-8") from None
    if not 1 <= size <= NAME:
        raise kind(what, name, f"has {size} bytes, not 1 to {NAME}")


def _check_expectation(expected):
    if isinstance(expected, eb.errors.StreamCondition):
        return
    if isinstance(expected, bool) or not isinstance(expected, int):
        message = f"{expected!r} is no expectation"
        raise TypeError(message)
    if not 0 <= expected < 2**64:
        raise eb.errors.InvalidArgument("expectation", str(expected), "is out of range")


def _within(what, actual, limit):
    if actual > limit:
        raise eb.errors.LimitExceeded(what, actual, limit)


def _iterable(what, items):
    if isinstance(items, str | bytes):
        message = f"the {what} must be several, not one text"
        raise TypeError(message)
    return items


def _mapping(expect):
    if not hasattr(expect, "items"):
        message = "the expectations must be a mapping"
        raise TypeError(message)
    return expect
