"""The choice of a command's store, in the same three ways for every command."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventbraid.cli._options import require_utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eventbraid.cli._exit import Exit

    Command = Callable[..., Exit]

STORE_VARIABLE = "EVENTBRAID_STORE"
_DEMO_STORE = "shop.braid"


@dataclass(frozen=True, slots=True)
class Others:
    """The arguments that a command takes after STORE.

    Attributes:
        parameter: The parameter that receives them.
        metavar: How the help text shows them.
        exactly_one: Whether the command needs exactly one of them; else any number.
    """

    parameter: str
    metavar: str
    exactly_one: bool = False


def store_argument(others: Others | None = None) -> Callable[[Command], Command]:
    """Add STORE and `--store`; the command receives the path as `location`.

    Args:
        others: The arguments after STORE, if the command takes any.
    """
    metavar = "[STORE]" if others is None else f"[STORE] {others.metavar}"

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_store(
            *, arguments: tuple[str, ...], store: str | None, **options: Any
        ) -> Exit:
            location, rest = choose_store(arguments, store, others)
            if others is not None:
                options[others.parameter] = rest[0] if others.exactly_one else rest
            return command(location=location, **options)

        option = click.option(
            "--store",
            metavar="STORE",
            help="The store's directory, in place of the first argument.  "
            f"[env var: {STORE_VARIABLE}]",
        )
        argument = click.argument("arguments", nargs=-1, metavar=metavar)
        return argument(option(with_store))

    return decorate


def choose_store(
    arguments: Sequence[str], store: str | None, others: Others | None
) -> tuple[str, tuple[str, ...]]:
    """Return the store's path and the arguments that remain.

    `--store` takes precedence over the first argument, and both over the environment.
    With the variable set, the first argument of a command that takes further arguments
    is the store only if it is an existing directory.

    Raises:
        click.UsageError: No store is named, or an argument is missing or too many.
    """
    rest = tuple(arguments)
    variable = os.environ.get(STORE_VARIABLE) or None
    if store is None and rest and _names_a_store(rest, variable, others):
        store, rest = rest[0], rest[1:]
    if store is None:
        store = variable
    if store is None:
        raise click.UsageError(
            "no store is named: give its directory as the first argument, with "
            f"--store, or in {STORE_VARIABLE}"
        )
    _check_count(rest, others)
    for text in rest:
        require_utf8(text, others.metavar if others else "STORE")
    return _directory(store), rest


def _names_a_store(
    arguments: Sequence[str], variable: str | None, others: Others | None
) -> bool:
    if others is None or variable is None:
        return others is None or not others.exactly_one or len(arguments) > 1
    return len(arguments) > 1 if others.exactly_one else Path(arguments[0]).is_dir()


def _check_count(rest: Sequence[str], others: Others | None) -> None:
    if others is None and rest:
        raise click.UsageError(f"Got unexpected extra argument ({rest[0]})")
    if others is not None and others.exactly_one and len(rest) != 1:
        if not rest:
            raise click.UsageError(f"Missing argument '{others.metavar}'.")
        raise click.UsageError(f"Got unexpected extra argument ({rest[1]})")


def _directory(location: str) -> str:
    """Refuse what can't be the directory of a store; it need not exist."""
    if location == "memory:":
        raise click.BadParameter(
            "'memory:' is a store of one process; give the path of a directory",
            param_hint="STORE",
        )
    if not location:
        raise click.BadParameter("the path is empty", param_hint="STORE")
    path = click.Path(file_okay=False, path_type=Path).convert(location, None, None)
    return str(_store_of_demo(Path(path)))


def _store_of_demo(directory: Path) -> Path:
    """Return the store inside a demo's directory, or the directory itself."""
    nested = directory / _DEMO_STORE
    return nested if nested.is_dir() else directory
