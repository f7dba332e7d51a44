"""`eventbraid read`: events of the log, of one stream, or of several in a snapshot."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

import click

import eventbraid as eb
from eventbraid.cli._exit import Exit
from eventbraid.cli._opening import look_at_store, read_only_option
from eventbraid.cli._options import (
    EVENT_FIELDS,
    LARGEST_NUMBER,
    NUMBER,
    Wanted,
    filter_options,
    json_option,
)
from eventbraid.cli._store_choice import Others, store_argument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_EPILOG = f"""\b
Examples:
  eventbraid read shop.braid --limit 20
  eventbraid read shop.braid order-7 --after 3
  eventbraid read shop.braid account-alice account-bob --backward
  eventbraid read shop.braid --category order --type order.paid --json | jq .data

{EVENT_FIELDS}"""

_PAGE = 32


@dataclass(frozen=True, slots=True)
class Range:
    """The part of the log or stream that is read, and the direction."""

    after: int
    before: int | None
    limit: int | None
    backward: bool


@click.command(epilog=_EPILOG)
@store_argument(Others("streams", "[STREAM]..."))
@click.option(
    "--after",
    type=NUMBER,
    default=0,
    help="Only events after this version of STREAM, or this position of the log.",
)
@click.option(
    "--before",
    type=NUMBER,
    help="Only events before this version of STREAM, or this position of the log.",
)
@click.option("-n", "--limit", type=NUMBER, help="The maximum number of events.")
@click.option("--backward", is_flag=True, help="The newest event first.")
@filter_options
@read_only_option()
@json_option("Print JSON, one event per line.")
def read(
    *,
    location: str,
    streams: tuple[str, ...],
    after: int,
    before: int | None,
    limit: int | None,
    backward: bool,
    prefix: str | None,
    category: str | None,
    types: tuple[str, ...],
    system: bool,
    read_only: bool,
    as_json: bool,
) -> Exit:
    """Print events.

    Without STREAM: the whole log, by position. With one: its events, by version. With
    several: a snapshot of all of them, in the order of the log; then --after and
    --before are positions.
    """
    from eventbraid.cli._events import event_printer
    from eventbraid.cli._output import output

    wanted = Wanted.of(prefix, category, types, system=system)
    if streams and (prefix is not None or category is not None):
        raise click.UsageError(
            "--prefix and --category filter all streams: leave out STREAM, or "
            "leave out these options"
        )
    part = Range(after, before, limit, backward)
    with look_at_store(location, read_only=read_only) as store, output() as out:
        events = _events(store, tuple(dict.fromkeys(streams)), part, wanted)
        count = event_printer(out, as_json=as_json).show(events)
        if not count and not as_json:
            click.echo(f"no events: {_reason(store, streams, part)}", err=True)
    return Exit.FINE


def _reason(store: eb.EventStore, streams: Sequence[str], part: Range) -> str:
    """Explain an empty result: it has three causes with different remedies."""
    from eventbraid.cli._output import counted, printable

    if part.limit == 0:
        return "--limit 0 reads none"
    if not streams:
        held = store.head()
        if held == 0:
            return "the store is empty"
        return f"the log has {counted(held, 'event')}, and none of them matches"
    empty = [one for one in streams if store.version(one) == 0]
    if empty:
        names = ", ".join(printable(one) for one in empty)
        return (
            f"nothing was ever written to {names}; `eventbraid streams` lists the "
            "streams that exist"
        )
    return "the streams have events, and none of them matches"


def _events(
    store: eb.EventStore, streams: Sequence[str], part: Range, wanted: Wanted
) -> Iterator[eb.RecordedEvent]:
    if not streams:
        return store.read_all(
            after=part.after,
            before=part.before,
            limit=part.limit,
            backward=part.backward,
            prefix=wanted.prefix,
            category=wanted.category,
            types=wanted.types,
            system=wanted.system,
        )
    chosen = (
        store.read_stream(
            streams[0], after=part.after, before=part.before, backward=part.backward
        )
        if len(streams) == 1
        else _between(_snapshot(store, streams, backward=part.backward), part)
    )
    limit = None if part.limit is None else min(part.limit, sys.maxsize)
    return islice(_of_types(chosen, wanted.types), limit)


def _snapshot(
    store: eb.EventStore, streams: Sequence[str], *, backward: bool
) -> Iterator[eb.RecordedEvent]:
    """Read several streams as of one position, one page of each at a time.

    `read_streams` returns all events at once. Here it is asked for none, only for the
    version of each stream in the snapshot; then each stream is read up to its version.
    """
    nothing = dict.fromkeys(streams, LARGEST_NUMBER)
    versions = store.read_streams(streams, after=nothing).versions
    parts = [
        _copies(store, stream, version, backward=backward)
        for stream, version in versions.items()
    ]
    return merge(*parts, key=_position, reverse=backward)


def _copies(
    store: eb.EventStore, stream: str, version: int, *, backward: bool
) -> Iterator[eb.RecordedEvent]:
    """Read a stream up to a version in small pages of copied events.

    An event of the store keeps its whole commit in memory; with a page of each of many
    streams in memory that could be the whole log.
    """
    after, before = 0, version + 1
    while page := [
        _copy(recorded)
        for recorded in store.read_stream(
            stream, after=after, before=before, limit=_PAGE, backward=backward
        )
    ]:
        yield from page
        last = page[-1].version
        after, before = (after, last) if backward else (last, before)


def _copy(recorded: eb.RecordedEvent) -> eb.RecordedEvent:
    return eb.RecordedEvent(
        stream=recorded.stream,
        version=recorded.version,
        position=recorded.position,
        type=recorded.type,
        event_id=recorded.event_id,
        recorded_at=recorded.recorded_at,
        data=recorded.data,
        metadata=recorded.metadata,
        original_time=recorded.original_time,
    )


def _between(
    events: Iterable[eb.RecordedEvent], part: Range
) -> Iterator[eb.RecordedEvent]:
    before = LARGEST_NUMBER if part.before is None else part.before
    for recorded in events:
        if part.after < recorded.position < before:
            yield recorded


def _of_types(
    events: Iterable[eb.RecordedEvent], types: tuple[str, ...] | None
) -> Iterator[eb.RecordedEvent]:
    return (one for one in events if types is None or one.type in types)


def _position(recorded: eb.RecordedEvent) -> int:
    return recorded.position
