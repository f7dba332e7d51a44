"""`eventbraid stats`: the size of a store, and its sessions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from eventbraid.cli._exit import Exit
from eventbraid.cli._opening import look_at_store, read_only_option
from eventbraid.cli._options import json_option
from eventbraid.cli._store_choice import store_argument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    import eventbraid as eb

_KIB = 1024


@dataclass(frozen=True, slots=True)
class _Size:
    """The size of a store; the fields are those of `--json`."""

    head: int
    streams: int
    bytes: int
    segments: int
    first_recorded_at: datetime | None
    last_recorded_at: datetime | None
    sessions: tuple[eb.store.StoreSession, ...]


@click.command()
@store_argument()
@read_only_option()
@json_option(
    "Print one JSON object: head, streams, bytes, segments, first_recorded_at, "
    "last_recorded_at, sessions (those that have it open; is_self is this command)."
)
def stats(*, location: str, read_only: bool, as_json: bool) -> Exit:
    """Print the size of a store, and the other sessions that have it open.

    For each session: its appends, events, commits per write and syncs since it opened
    the store, the number of refused appends, and of waits for another session.
    """
    from eventbraid.cli._output import output

    with look_at_store(location, read_only=read_only) as store:
        size = _measured(store)
    with output() as out:
        if as_json:
            out.json(asdict(size))
        else:
            for name, value in _rows(size):
                out.line(f"{name:<14}{value}")
            for line in _table(size.sessions):
                out.line(line)
    return Exit.FINE


def _measured(store: eb.EventStore) -> _Size:
    counted = store.stats()
    return _Size(
        head=counted.head,
        streams=counted.streams,
        bytes=counted.bytes,
        segments=counted.segments,
        first_recorded_at=_time(store, backward=False),
        last_recorded_at=_time(store, backward=True),
        sessions=counted.sessions,
    )


def _time(store: eb.EventStore, *, backward: bool) -> datetime | None:
    for recorded in store.read_all(limit=1, backward=backward, system=True):
        return recorded.recorded_at
    return None


def _rows(size: _Size) -> list[tuple[str, str]]:
    from eventbraid.cli._output import counted

    files = counted(size.segments, "file")
    return [
        ("last position", f"{size.head:>12,}"),
        ("streams", f"{size.streams:>12,}"),
        ("log", f"{size.bytes:>12,} bytes ({in_units(size.bytes)}) in {files}"),
        ("first event", _formatted(size.first_recorded_at)),
        ("last event", _formatted(size.last_recorded_at)),
    ]


_COLUMNS = (
    "pid", "since", "appends", "events", "batch", "fsyncs",
    "conflicts", "waits", "program",
)  # fmt: skip


def _table(sessions: tuple[eb.store.StoreSession, ...]) -> Iterator[str]:
    """Format the other sessions, in columns as wide as their content."""
    rows = [_COLUMNS, *(_cells(one) for one in sessions if not one.is_self)]
    if len(rows) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield ""
    yield f"other sessions: {len(rows) - 1}"
    for *cells, program in rows:
        aligned = (
            f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False)
        )
        yield f"  {'  '.join(aligned)}  {program}"


def _cells(session: eb.store.StoreSession) -> tuple[str, ...]:
    from eventbraid.cli._output import printable

    read_only = " (read only)" if session.read_only else ""
    return (
        str(session.pid),
        _formatted(session.since),
        f"{session.appends:,}",
        f"{session.events:,}",
        # The mean number of commits in a write batch.
        f"{session.commits / session.write_batches:.1f}"
        if session.write_batches
        else "-",
        f"{session.fsyncs:,}",
        f"{session.conflicts:,}",
        f"{session.waits:,}",
        printable(session.program) + read_only,
    )


def in_units(size: int) -> str:
    """Format a number of bytes with a unit.

    Example:
        >>> in_units(11_100_000)
        '10.6 MiB'
    """
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < _KIB:
            return f"{amount:.1f} {unit}" if unit != "bytes" else f"{size} bytes"
        amount /= _KIB
    return f"{amount:.1f} TiB"


def _formatted(time: datetime | None) -> str:
    return "none" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"
