"""Events on standard input: one JSON object per line."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, BinaryIO
from uuid import UUID

import click
import msgspec
import orjson

import eventbraid as eb
from eventbraid.cli._output import printable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

LONGEST_LINE = 64 * 2**20
LARGEST_COMMIT = 16 * 2**20
_MAXIMUM_LISTED = 20


class _Line(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A line's fields; the last four are printed by `read --json` and ignored here."""

    stream: str
    type: str
    data: msgspec.Raw = msgspec.Raw()
    data_base64: bytes | None = None
    metadata: dict[str, str] | None = None
    event_id: UUID | None = None
    original_time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    position: int | None = None
    version: int | None = None
    recorded_at: str | None = None
    codec: str | None = None


@dataclass(slots=True)
class Batch:
    """The events of one commit.

    Attributes:
        number: The number of the commit, from 1.
        events: The events.
        lines: The line number of each event.
    """

    number: int
    events: list[eb.NewEvent] = field(default_factory=list[eb.NewEvent])
    lines: list[int] = field(default_factory=list[int])


class BadLines(click.ClickException):
    """Some lines are not events, so their commit was not written."""

    def __init__(self, faults: list[str], count: int, batch: Batch) -> None:
        """Build the message: the faulty lines, and the commits before them.

        Args:
            faults: The first faults.
            count: The number of all faults.
            batch: The commit that was not written.
        """
        listed = "\n".join(f"  {printable(fault)}" for fault in faults)
        if count > len(faults):
            listed += f"\n  and {count - len(faults):,} more"
        before = (
            "nothing was written"
            if batch.number == 1
            else f"commit {batch.number} and all after it were not written; "
            f"the {batch.number - 1:,} before it were"
        )
        super().__init__(f"{before}, because of these lines:\n{listed}")


def batches(lines: BinaryIO, size: int | None) -> Iterator[Batch]:
    """Divide standard input into commits; at least one, which may be empty.

    Args:
        lines: Standard input.
        size: The number of events in a commit; all of them if None.

    Raises:
        BadLines: A line of the next commit is not an event.
    """
    batch, faults = Batch(1), _Faults()
    room = LARGEST_COMMIT
    for number, line in _numbered(lines):
        try:
            event = _event(line)
        except _NotAnEvent as fault:
            faults.add(number, str(fault))
            continue
        if not faults:
            batch.events.append(event)
            batch.lines.append(number)
            room -= len(event.data)
        if room < 0:
            raise BadLines([_too_much(number, size)], 1, batch)
        if size is not None and len(batch.events) == size:
            yield batch
            batch, room = Batch(batch.number + 1), LARGEST_COMMIT
    if faults:
        raise BadLines(faults.listed, faults.count, batch)
    if batch.events or batch.number == 1:
        yield batch


def refuse_invalid_events(batch: Batch) -> None:
    """Raise if no store could accept an event, or all events together.

    Raises:
        BadLines: Names the line; or all lines, if together they are too large.
    """
    with eb.open("memory:") as scratch:
        for number, event in zip(batch.lines, batch.events, strict=True):
            with _naming(f"line {number}", batch):
                scratch.append([event])
        if batch.events:
            with _naming("all of them (use a smaller --commit-size)", batch):
                scratch.append(batch.events)


@contextmanager
def _naming(what: str, batch: Batch) -> Generator[None]:
    try:
        yield
    except eb.errors.InvalidArgument as fault:
        raise BadLines([f"{what}: {fault}"], 1, batch) from None


class _NotAnEvent(ValueError):
    """The reason why a line is not an event."""


@dataclass(slots=True)
class _Faults:
    """The faulty lines; the first ones are listed with their faults."""

    listed: list[str] = field(default_factory=list[str])
    count: int = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, line: int, fault: str) -> None:
        self.count += 1
        if len(self.listed) < _MAXIMUM_LISTED:
            self.listed.append(f"line {line}: {fault}")


def _numbered(lines: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Iterate over the lines that aren't blank, and stop after one that is too long."""
    number = 0
    while line := lines.readline(LONGEST_LINE):
        number += 1
        if line.strip():
            yield number, line
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            return


def _event(line: bytes) -> eb.NewEvent:
    if len(line) == LONGEST_LINE:
        raise _NotAnEvent(f"it is longer than {LONGEST_LINE:,} bytes")
    # msgspec reports what is wrong with the fields, orjson what is wrong with the JSON:
    # orjson is stricter, and it decodes the data when events are read.
    with suppress(UnicodeDecodeError):
        line.decode()
        fields = _decoded(line)
        try:
            return eb.NewEvent(
                fields.stream,
                fields.type,
                _data(fields),
                metadata=fields.metadata,
                event_id=fields.event_id,
                original_time=fields.original_time,
            )
        except eb.errors.InvalidArgument as error:
            raise _NotAnEvent(str(error)) from None
    raise _NotAnEvent("it is not UTF-8")


def _decoded(line: bytes) -> _Line:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _NotAnEvent(f"it is not JSON: {error}") from None
    try:
        _refuse_repeated_fields(line)
        return _decoder.decode(line)
    except msgspec.ValidationError as error:
        raise _NotAnEvent(str(error)) from None
    except RecursionError:
        raise _NotAnEvent("its data is nested too deeply") from None


class _Pairs(list[tuple[str, object]]):
    """The fields of a JSON object in their order, repeated ones included."""


def _refuse_repeated_fields(line: bytes) -> None:
    """Refuse a field that occurs twice, of which every decoder silently drops one.

    The event's own data is stored as it is written, including repeated fields.
    """
    fields = json.loads(line, object_pairs_hook=_Pairs)
    if not isinstance(fields, _Pairs):
        return
    _refuse_repetition(fields, "field")
    for name, value in fields:
        if name == "metadata" and isinstance(value, _Pairs):
            _refuse_repetition(value, "metadata key")


def _refuse_repetition(pairs: _Pairs, kind: str) -> None:
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise _NotAnEvent(f"the {kind} `{name}` occurs {count} times")


def _data(fields: _Line) -> bytes:
    data = bytes(fields.data)
    if (fields.data_base64 is None) == (not data):
        raise _NotAnEvent("give either `data` or `data_base64`")
    return data if fields.data_base64 is None else fields.data_base64


def _too_much(line: int, size: int | None) -> str:
    smaller = "--commit-size" if size is None else "a smaller --commit-size"
    limit = f"{LARGEST_COMMIT // 2**20} MiB"
    return f"line {line}: a commit holds at most {limit}; use {smaller}"


_decoder = msgspec.json.Decoder(_Line)
