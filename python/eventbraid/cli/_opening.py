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
    return eb.open(location, create=writing and create)


def store_argument() -> Callable[[FC], FC]:
    """Add the argument STORE, which a command gets as `location`."""
    return click.argument("location", metavar="STORE", type=StoreDirectory())


class StoreDirectory(click.Path):
    """The path of a store's directory; it need not be there yet."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=str)

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Refuse what `eventbraid.open` would not take for a directory."""
        location = str(value)
        if location == "memory:":
            self.fail(
                "'memory:' is a store of one process; give the path of a directory",
                param,
                ctx,
            )
        return str(super().convert(location, param, ctx))
