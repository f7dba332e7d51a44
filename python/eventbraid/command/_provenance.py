"""Distinguishes the library's own errors from those that a command's functions raise.

A command may use a store of its own in `decide`, or raise any error by mistake. A
`StoreClosed` or a `VersionConflict` of that kind says nothing of the store that the
command is executed on.
"""

from __future__ import annotations

from eventbraid.errors import EventbraidError

_MARK = "_raised_by_command"


def mark_raised_by_command(error: BaseException) -> None:
    """Note on an error of the library that a function of a command raised it."""
    if isinstance(error, EventbraidError):
        error.__dict__[_MARK] = True


def is_raised_by_command(error: BaseException) -> bool:
    """Return whether a function of a command raised an error of the library."""
    return _MARK in error.__dict__
