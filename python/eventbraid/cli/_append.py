"""`eventbraid append`: events from standard input, a JSON object a line."""

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
  data          any JSON; kept as it is written
  data_base64   instead of data: bytes that are no JSON
  metadata      an object of texts; may be left out
  event_id      a UUID; may be left out
What else `read --json` prints (position, version, recorded_at) is passed over, any
other field is refused. Blank lines are skipped.
"""
_RUNS_ON = """\
the commit under way runs on: see with `eventbraid tail` whether it is there, or append
it again, if it had an --idempotency-key under the same\
"""
_MOST_STREAMS = 10
_EXPECTED = "STREAM=VERSION|any|none|exists"
_CONDITIONS: dict[str, eb.Expectation] = {
    "any": eb.ANY,
    "none": eb.NO_STREAM,
    "exists": eb.EXISTS,
}


@dataclass(frozen=True, slots=True)
class Demands:
    """What is demanded of the store, and under which key.

    Attributes:
        expect: What the first commit expects of which stream.
        key: The idempotency key, if there is one.
        numbered: Whether each commit has a key of its own, made of that one.
    """

    expect: Mapping[str, eb.Expectation]
    key: str | None
    numbered: bool

    def key_of(self, batch: Batch) -> str | None:
        """Build the idempotency key of a commit."""
        if self.key is None or not self.numbered:
            return self.key
        return f"{self.key}/{batch.number}"

    def expect_of(self, batch: Batch) -> Mapping[str, eb.Expectation]:
        """Return the expectations of a commit: later ones follow from the first."""
        return self.expect if batch.number == 1 else {}

    def concern(self, batch: Batch) -> bool:
        """Return whether the input holds any event."""
        return bool(batch.events or self.expect_of(batch) or self.key_of(batch))


def _by_stream(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, eb.Expectation]:
    """Take each text apart at its last =, because a stream's id may have one."""
    expect: dict[str, eb.Expectation] = {}
    for text in utf8_only(context, parameter, texts):
        stream, _, what = text.rpartition("=")
        if not stream:
            raise click.BadParameter(f"{text!r} is not {_EXPECTED}", param=parameter)
        if stream in expect:
            raise click.BadParameter(f"{stream!r} is named twice", param=parameter)
        expect[stream] = _expectation(what, parameter)
    return expect


def _expectation(what: str, parameter: click.Parameter) -> eb.Expectation:
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
    help="Begin a new commit after so many events.  [default: one commit for all]",
)
@click.option(
    "--expect",
    metavar=_EXPECTED,
    callback=_by_stream,
    multiple=True,
    help="What the first commit expects of a stream, written or not; repeatable.",
)
@click.option(
    "--idempotency-key",
    callback=utf8_only,
    help="Append it once, however often this is run; with --commit-size the commits' "
    "keys are KEY/1, KEY/2 and so on.",
)
@click.option(
    "--create/--no-create",
    default=False,
    show_default=True,
    help="Make a new store if there is none; without it a mistyped path is an error.",
)
@json_option(
    "Print JSON, one commit a line: commit, first_line, last_line, events, "
    "first_position, last_position, versions, replayed."
)
def append(
    *,
    location: str,
    commit_size: int | None,
    expect: dict[str, eb.Expectation],
    idempotency_key: str | None,
    create: bool,
    as_json: bool,
) -> Exit:
    """Append events from standard input, one JSON object a line.

    All of them are one commit, all or nothing, unless --commit-size cuts them. Lines
    that are no events are named by their numbers before anything of their commit is
    written. What is printed is on the disk.
    """
    from eventbraid.cli._event_lines import batches
    from eventbraid.cli._output import output

    if not create and not Path(location).exists():
        raise click.UsageError(
            f"there is no store at {printable(location)!r}: correct the path, or add "
            "--create to make a new store there"
        )
    demands = Demands(expect, idempotency_key, commit_size is not None)
    lines = _standard_input()
    with ExitStack() as opened, output() as out:
        store: eb.EventStore | None = None
        for batch in batches(lines, commit_size):
            if not demands.concern(batch):
                click.echo("nothing to append: no lines came in", err=True)
                continue
            # Not before there is something to write: bad input makes no store.
            store = store or opened.enter_context(_opened(location, batch, create))
            done = _commit(store, batch, demands)
            _tell(out, batch, done, as_json=as_json)
    return Exit.FINE


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise click.UsageError("standard input is closed; events are read from there")
    if sys.stdin.isatty():
        click.echo("one JSON object a line; Ctrl-D ends, Ctrl-C gives up", err=True)
    return sys.stdin.buffer


def _opened(location: str, first: Batch, create: bool) -> eb.EventStore:  # noqa: FBT001
    from eventbraid.cli._event_lines import refuse_what_none_accepts

    if create and not Path(location).exists():
        refuse_what_none_accepts(first)
    return open_store(location, writing=True, create=create)


def _commit(store: eb.EventStore, batch: Batch, demands: Demands) -> eb.Appended:
    from eventbraid.cli._event_lines import refuse_what_none_accepts

    try:
        return store.append(
            batch.events,
            expect=demands.expect_of(batch),
            idempotency_key=demands.key_of(batch),
        )
    except eb.InvalidArgument:
        refuse_what_none_accepts(batch)
        raise
    except KeyboardInterrupt as interruption:
        if getattr(interruption, "outcome_unknown", False):
            click.echo(_RUNS_ON, err=True)
        raise


def _tell(out: Output, batch: Batch, done: eb.Appended, *, as_json: bool) -> None:
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
    # Whoever reads this may act on it: it must not wait for the next commit.
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
