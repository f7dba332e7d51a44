"""`eventbraid append`: events from standard input, one JSON object per line."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

import eventbraid as eb
from eventbraid.cli._exit import Exit
from eventbraid.cli._opening import open_store
from eventbraid.cli._options import LARGEST_NUMBER, json_option, utf8_only
from eventbraid.cli._output import printable
from eventbraid.cli._store_choice import store_argument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.cli._event_lines import Batch
    from eventbraid.cli._output import Output

_EPILOG = """\b
Examples:
  echo '{"stream": "order-7", "type": "order.paid", "data": {"cents": 1177}}' |
    eventbraid append shop.braid --expect order-7=2
  eventbraid read old.braid --json |
    eventbraid append new.braid --create --commit-size 1000

\b
Fields of a line:
  stream, type  text
  data          any JSON; stored as it is written
  data_base64   instead of data: bytes that are not JSON
  metadata      an object of texts; optional
  event_id      a UUID; optional
  original_time when the event happened, with a time zone; optional
The other fields of `read --json` (position, version, recorded_at) are ignored; any
further field is refused. Blank lines are skipped.
"""
_IN_PROGRESS = """\
the last commit may still be written: check with `eventbraid tail`, or repeat the append
with the same --idempotency-key if it had one\
"""
_MOST_STREAMS = 10
_EXPECTED = "STREAM=VERSION|any|none|exists"
_CONDITIONS: dict[str, eb.store.Expectation] = {
    "any": eb.ANY,
    "none": eb.NO_STREAM,
    "exists": eb.EXISTS,
}


@dataclass(frozen=True, slots=True)
class Demands:
    """The expectations and the idempotency key of an append.

    Attributes:
        expect: The expectations of the first commit.
        key: The idempotency key, if there is one.
        numbered: Whether each commit has a key of its own, derived from that one.
    """

    expect: Mapping[str, eb.store.Expectation]
    key: str | None
    numbered: bool

    def key_of(self, batch: Batch) -> str | None:
        """Build the idempotency key of a commit."""
        if self.key is None or not self.numbered:
            return self.key
        return f"{self.key}/{batch.number}"

    def expect_of(self, batch: Batch) -> Mapping[str, eb.store.Expectation]:
        """Return the expectations of a commit; only the first commit has any."""
        return self.expect if batch.number == 1 else {}

    def concern(self, batch: Batch) -> bool:
        """Return whether a commit has anything to append or to check."""
        return bool(batch.events or self.expect_of(batch) or self.key_of(batch))


def _by_stream(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, eb.store.Expectation]:
    """Split each text at its last =, because a stream's id may contain one."""
    expect: dict[str, eb.store.Expectation] = {}
    for text in utf8_only(context, parameter, texts):
        stream, _, what = text.rpartition("=")
        if not stream:
            raise click.BadParameter(f"{text!r} is not {_EXPECTED}", param=parameter)
        if stream in expect:
            raise click.BadParameter(f"{stream!r} is named twice", param=parameter)
        expect[stream] = _expectation(what, parameter)
    return expect


def _expectation(what: str, parameter: click.Parameter) -> eb.store.Expectation:
    if what in _CONDITIONS:
        return _CONDITIONS[what]
    if what.isascii() and what.isdigit() and int(what) <= LARGEST_NUMBER:
        return int(what)
    raise click.BadParameter(
        f"{what!r} is not a version, any, none or exists", param=parameter
    )


@click.command(epilog=_EPILOG)
@store_argument()
@click.option(
    "--commit-size",
    type=click.IntRange(min=1),
    help="The maximum number of events in a commit.  [default: one commit for all]",
)
@click.option(
    "--expect",
    metavar=_EXPECTED,
    callback=_by_stream,
    multiple=True,
    help="An expectation of the first commit, on any stream; repeatable.",
)
@click.option(
    "--idempotency-key",
    callback=utf8_only,
    help="Append once, however often the command is run; with --commit-size the keys "
    "of the commits are KEY/1, KEY/2 and so on.",
)
@click.option(
    "--create/--no-create",
    default=False,
    show_default=True,
    help="Create the store if there is none; without it a mistyped path is an error.",
)
@json_option(
    "Print JSON, one commit per line: commit, first_line, last_line, events, "
    "first_position, last_position, versions, replayed."
)
def append(
    *,
    location: str,
    commit_size: int | None,
    expect: dict[str, eb.store.Expectation],
    idempotency_key: str | None,
    create: bool,
    as_json: bool,
) -> Exit:
    """Append events from standard input, one JSON object per line.

    Without --commit-size all events are one commit, all or nothing. If a line is not an
    event, its number is printed and nothing of its commit is written. A commit that is
    printed is on the disk.
    """
    from eventbraid.cli._event_lines import batches
    from eventbraid.cli._output import output

    if not create and not Path(location).exists():
        raise click.UsageError(
            f"there is no store at {printable(location)!r}: correct the path, or add "
            "--create to create a store there"
        )
    demands = Demands(expect, idempotency_key, commit_size is not None)
    lines = _standard_input()
    with ExitStack() as opened, output() as out:
        store: eb.EventStore | None = None
        for batch in batches(lines, commit_size):
            if not demands.concern(batch):
                click.echo("nothing to append: the input is empty", err=True)
                continue
            # Not before there is something to write: bad input creates no store.
            store = store or opened.enter_context(_opened(location, batch, create))
            done = _commit(store, batch, demands)
            _print_commit(out, batch, done, as_json=as_json)
    return Exit.FINE


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise click.UsageError("standard input is closed; events are read from there")
    if sys.stdin.isatty():
        click.echo("one JSON object per line; Ctrl-D ends, Ctrl-C cancels", err=True)
    return sys.stdin.buffer


def _opened(location: str, first: Batch, create: bool) -> eb.EventStore:  # noqa: FBT001
    from eventbraid.cli._event_lines import refuse_invalid_events

    if create and not Path(location).exists():
        refuse_invalid_events(first)
    return open_store(location, writing=True, create=create)


def _commit(store: eb.EventStore, batch: Batch, demands: Demands) -> eb.Appended:
    from eventbraid.cli._event_lines import refuse_invalid_events

    try:
        return store.append(
            batch.events,
            expect=demands.expect_of(batch),
            idempotency_key=demands.key_of(batch),
        )
    except eb.errors.InvalidArgument:
        refuse_invalid_events(batch)
        raise
    except KeyboardInterrupt as interruption:
        if getattr(interruption, "outcome_unknown", False):
            click.echo(_IN_PROGRESS, err=True)
        raise


def _print_commit(
    out: Output, batch: Batch, done: eb.Appended, *, as_json: bool
) -> None:
    if as_json:
        out.json(
            {
                "commit": batch.number,
                "first_line": batch.lines[0] if batch.lines else None,
                "last_line": batch.lines[-1] if batch.lines else None,
                "events": len(batch.events),
                "first_position": done.first_position,
                "last_position": done.last_position,
                "versions": dict(done.versions),
                "replayed": done.replayed,
            }
        )
    else:
        for line in _lines(batch, done):
            out.line(line)
    # A program that reads this may act on it, so it must not wait for the next commit.
    out.flush()


def _lines(batch: Batch, done: eb.Appended) -> list[str]:
    from eventbraid.cli._output import counted

    what = f"commit {batch.number}: {counted(len(batch.events), 'event')}"
    if done.first_position is not None:
        what += f", positions {done.first_position} to {done.last_position}"
    if done.replayed:
        what += "; it was there before"
    if len(done.versions) > _MOST_STREAMS:
        return [f"{what}; {counted(len(done.versions), 'stream')}"]
    versions = done.versions.items()
    return [what, *(f"  {printable(name)} is at version {v}" for name, v in versions)]
