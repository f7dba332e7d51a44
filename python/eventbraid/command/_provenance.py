"""Distinguishes the library's own errors from those that a command's functions raise.

A command may use another store in `decide`, or raise any error by mistake. A
`StoreClosed` or `VersionConflict` that it raises isn't an error of the store on which
the command is executed.
"""

from __future__ import annotations

from eventbraid.errors import EventbraidError

_MARK = "_raised_by_command"


def mark_raised_by_command(error: BaseException) -> None:
    """Mark an error of the library as raised by a function of a command."""
    if isinstance(error, EventbraidError):
        error.__dict__[_MARK] = True


def is_raised_by_command(error: BaseException) -> bool:
    """Return whether a function of a command raised an error of the library."""
    return _MARK in error.__dict__
