"""The end of a command: exit codes, and error messages without tracebacks."""

from __future__ import annotations

import os
import sqlite3
import sys
import traceback
from enum import IntEnum
from typing import cast

import click

import eventbraid as eb
from eventbraid.cli._output import printable


class Exit(IntEnum):
    """The exit codes; part of the command line's interface."""

    FINE = 0
    OFF = 1
    """The command has finished, and its output shows a problem."""
    USAGE = 2
    """The arguments or the input can't be used."""
    STORE = 3
    """The store, a ledger or the system refused."""
    BUG = 4
    """An unexpected error."""
    INTERRUPTED = 130
    """Ctrl-C."""
    PIPE = 141
    """The reader of the output has closed it."""


DEBUG = "EVENTBRAID_DEBUG"
"""The environment variable that adds a traceback to an error."""


def explain(error: BaseException) -> Exit:
    """Print the error and its remedy, and return the exit code."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    cause = _first_cause(error)
    if isinstance(cause, KeyboardInterrupt | click.Abort):
        _print("interrupted")
        return Exit.INTERRUPTED
    if isinstance(cause, BrokenPipeError):
        # Python would report the broken pipe again when it flushes the output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE
    if isinstance(cause, click.ClickException):
        if type(cause) is click.UsageError:
            # click quotes surplus arguments as they are; its other errors escape them.
            cause = click.UsageError(printable(cause.message), cause.ctx)
        cause.show()
        return Exit.USAGE
    if isinstance(cause, eb.EventbraidError):
        _print(f"{type(cause).__name__}: {_in_options(str(cause))}")
        return Exit.USAGE if isinstance(cause, _MISUSE) else Exit.STORE
    if isinstance(cause, OSError | sqlite3.Error):
        _print(
            f"{type(cause).__name__}: {cause}; check that the files exist and are "
            "complete, and that this user may read and write them"
        )
        return Exit.STORE
    _print(f"unexpected {type(cause).__name__}: {cause}")
    click.echo(
        f"This is a bug in Eventbraid. Set {DEBUG}=1 to see where it comes from.",
        err=True,
    )
    return Exit.BUG


_MISUSE = (
    eb.CommandRejected,
    eb.errors.InvalidArgument,
    eb.InvalidValue,
    eb.errors.NotAStore,
    eb.errors.SagaNotFound,
)


def _first_cause(error: BaseException) -> BaseException:
    """Return the error to report out of a group: an interruption, or the first."""
    leaves = list(_leaves(error))
    interruptions = [leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt)]
    return (interruptions or leaves)[0]


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for inner in group.exceptions for leaf in _leaves(inner)]
    return [error]


_OPTIONS = {
    "leave out create=False to create a new store": "`eventbraid append --create` "
    "creates a new store",
    'open it in both with mode="shared"': "open it there in the shared mode",
    "open it with read_only=True": "add --read-only",
    "check the id, or start it": "`eventbraid saga list` prints the ids",
}


def _in_options(text: str) -> str:
    """Replace remedies that are arguments in Python with the command line's own."""
    for argument, option in _OPTIONS.items():
        text = text.replace(argument, option)
    return text


def _print(text: str) -> None:
    """Print one line, escaped: stored text in a message must not forge lines."""
    click.echo(f"eventbraid: {printable(text)}", err=True)
