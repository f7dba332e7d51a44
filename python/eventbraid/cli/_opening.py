"""Which store a command works on, and how it is opened."""

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
    """Open the store that a command was given.

    Args:
        location: The store's directory.
        writing: Whether the command will append.
        create: Whether to make a new store if there is none.
    """
    return _beside_others(location, create=writing and create)


def view_store(location: str) -> eb.EventStore:
    """Open a store so that nothing of it is changed.

    Args:
        location: The store's directory.
    """
    return _beside_others(location, create=False, read_only=True)


def _beside_others(
    location: str, *, create: bool, read_only: bool = False
) -> eb.EventStore:
    try:
        return eb.open(location, create=create, read_only=read_only)
    except eb.SharingUnsupported:
        # Nobody else can have it open here, so a command keeps nobody waiting for long.
        return eb.open(location, create=create, read_only=read_only, mode="exclusive")


def look_at_store(location: str, *, read_only: bool) -> eb.EventStore:
    """Open a store that a command only reads.

    An opening makes sure of what a crash has left; where it may not, the store is shown
    as far as it is proven to be on the disk, and what that leaves out is told.

    Args:
        location: The store's directory.
        read_only: Whether nothing may be changed, though it could be.
    """
    if not read_only:
        try:
            return open_store(location)
        except eb.StoreUnavailable:
            # Nothing can be written, or nothing read: this tells.
            return look_at_store(location, read_only=True)
    store = view_store(location)
    unproven = store.stats().unproven
    if unproven:
        click.echo(f"eventbraid: {left_out(unproven)}", err=True)
    return store


def left_out(unproven: int) -> str:
    """Warn of what a read-only opening doesn't show."""
    return (
        f"the last {unproven:,} bytes of the log are not shown: they are damaged, or "
        "not proven to be on the disk; opening the store to write tells or mends"
    )


def read_only_option() -> Callable[[FC], FC]:
    """Add `--read-only`."""
    return click.option(
        "--read-only",
        is_flag=True,
        help="Change nothing, not even what a crash left undone; a damaged store is "
        "shown up to the damage.",
    )
