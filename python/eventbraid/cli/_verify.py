"""`eventbraid verify`: check every byte of a store."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

import eventbraid as eb
from eventbraid.cli._exit import Exit
from eventbraid.cli._opening import left_out, view_store
from eventbraid.cli._options import json_option
from eventbraid.cli._store_choice import store_argument

if TYPE_CHECKING:
    from collections.abc import Generator

_EPILOG = """\
Exit codes: 0 the store is whole; 1 it is damaged; 2 misuse, there is no store; 3 it
could not be checked: in use, not readable, of a newer format.

\b
Fields with --json:
  whole     true or false
  commits, events, streams, bytes, seconds     if whole: the checked content
  unproven     if whole: bytes that a crash left at the end, not checked
  quarantined  if whole: files that recovery has moved to the folder quarantine
  file, offset, reason, remedy                 if damaged
"""


@dataclass(frozen=True, slots=True)
class _Whole:
    """The content of a store that is whole; the fields are those of `--json`."""

    commits: int
    events: int
    streams: int
    bytes: int
    unproven: int
    quarantined: int


@click.command(epilog=_EPILOG)
@store_argument()
@click.option(
    "--quick",
    is_flag=True,
    help="Only the newest commits, the manifest and the headers of all files.",
)
@json_option("Print one JSON object.")
def verify(*, location: str, quick: bool, as_json: bool) -> Exit:
    """Read a whole store and check every byte of it; nothing is changed.

    If it is damaged, the file, the offset and the remedy are printed.
    """
    began = time.monotonic()
    try:
        with _spinner(location), view_store(location) as store:
            whole = _check(store, quick=quick)
    except eb.errors.CorruptStore as damage:
        _print_damage(damage, as_json=as_json)
        return Exit.OFF
    _print_whole(whole, time.monotonic() - began, as_json=as_json)
    return Exit.FINE


def _check(store: eb.EventStore, *, quick: bool) -> _Whole:
    checked = store.verify(quick=quick)
    return _Whole(
        checked.frames,
        checked.events,
        checked.streams,
        checked.bytes,
        store.stats().unproven,
        checked.quarantined,
    )


@contextmanager
def _spinner(location: str) -> Generator[None]:
    """Display a spinner on a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.text import Text

    from eventbraid.cli._console import Console
    from eventbraid.cli._output import printable

    with Console(stderr=True).status(Text(f"checking {printable(location)}")):
        yield


def _print_whole(whole: _Whole, seconds: float, *, as_json: bool) -> None:
    from eventbraid.cli._output import counted, output

    with output() as out:
        if as_json:
            out.json({"whole": True, **asdict(whole), "seconds": round(seconds, 3)})
            return
        content = ", ".join(
            (
                counted(whole.commits, "commit"),
                counted(whole.events, "event"),
                counted(whole.streams, "stream"),
                counted(whole.bytes, "byte"),
            )
        )
        state = out.styled("whole", colour="green")
        out.line(f"{state}: {content}, in {seconds:.2f} s")
        if whole.unproven:
            out.line(left_out(whole.unproven))
        if whole.quarantined:
            files = counted(whole.quarantined, "file")
            out.line(f"moved to quarantine: {files}; keep or remove them")


def _print_damage(damage: eb.errors.CorruptStore, *, as_json: bool) -> None:
    from eventbraid.cli._output import output, printable

    file = damage.file.encode(errors="backslashreplace").decode()
    with output() as out:
        if as_json:
            where = {"file": file, "offset": damage.offset}
            why = {"reason": damage.reason, "remedy": damage.remedy}
            out.json({"whole": False, **where, **why})
            return
        out.line(f"{out.styled('DAMAGED', colour='red')}: {printable(damage.reason)}")
        out.line(f"  file    {printable(file)}")
        out.line(f"  byte    {damage.offset:,}")
        out.line(f"  to do   {printable(damage.remedy)}")
