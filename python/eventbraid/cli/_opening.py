"""Opens the store of a command: to write, to read, or read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.decorators import FC


def open_store(
    location: str, *, writing: bool = False, create: bool = False
) -> eb.EventStore:
    """Open the store of a command.

    Args:
        location: The store's directory.
        writing: Whether the command will append.
        create: Whether to create the store if there is none.
    """
    return _open_shared(location, create=writing and create)


def view_store(location: str) -> eb.EventStore:
    """Open a store read-only: nothing of it is changed.

    Args:
        location: The store's directory.
    """
    return _open_shared(location, create=False, read_only=True)


def _open_shared(
    location: str, *, create: bool, read_only: bool = False
) -> eb.EventStore:
    try:
        return eb.open(location, create=create, read_only=read_only)
    except eb.errors.SharingUnsupported:
        # On such a file system only one process can have the store open. A command has
        # it open for a short time.
        return eb.open(location, create=create, read_only=read_only, mode="exclusive")


def look_at_store(location: str, *, read_only: bool) -> eb.EventStore:
    """Open a store that a command only reads.

    A normal opening repairs the end of a log that a crash has left. If that isn't
    allowed or possible, the store is opened read-only: then only the part of the log is
    readable that is proven to be on the disk, and a warning has the size of the rest.

    Args:
        location: The store's directory.
        read_only: Whether to open it read-only in any case.
    """
    if not read_only:
        try:
            return open_store(location)
        except eb.errors.StoreUnavailable:
            # The store can't be written; the read-only opening fails too if it can't
            # be read.
            return look_at_store(location, read_only=True)
    store = view_store(location)
    unproven = store.stats().unproven
    if unproven:
        click.echo(f"eventbraid: {left_out(unproven)}", err=True)
    return store


def left_out(unproven: int) -> str:
    """Return the warning about the bytes that a read-only opening omits."""
    return (
        f"the last {unproven:,} bytes of the log are not shown: they are damaged, or "
        "not proven to be on the disk; open the store to write to repair or report it"
    )


def read_only_option() -> Callable[[FC], FC]:
    """Add `--read-only`."""
    return click.option(
        "--read-only",
        is_flag=True,
        help="Change nothing, not even the end of the log after a crash; a damaged "
        "store is shown up to the damage.",
    )
