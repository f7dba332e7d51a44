"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.decorators import FC

T = TypeVar("T")

LARGEST_NUMBER = 2**63 - 1
NUMBER = click.IntRange(min=0)


def utf8_only(context: click.Context, parameter: click.Parameter, value: T) -> T:
    """Refuse arguments that are not UTF-8: a shell passes on any bytes."""
    texts = cast("tuple[object, ...]", value) if _is_several(value) else (value,)
    for text in texts:
        require_utf8(str(text), parameter.get_error_hint(context))
    return value


def require_utf8(text: str, parameter: str) -> None:
    """Refuse an argument that is not UTF-8.

    Args:
        text: The argument, with a lone surrogate for each byte that is not UTF-8.
        parameter: How the error names the parameter.

    Raises:
        click.BadParameter: The argument is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"{text!a} is not UTF-8"
        raise click.BadParameter(message, param_hint=parameter) from None


def _is_several(value: object) -> bool:
    return isinstance(value, tuple)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filter of a command that shows events of the log.

    Attributes:
        prefix: Only events of streams whose id begins with this.
        category: Only events of streams of this category.
        types: Only events of these types; all if None.
        system: Whether system streams are shown.
    """

    prefix: str | None
    category: str | None
    types: tuple[str, ...] | None
    system: bool

    @classmethod
    def of(
        cls,
        prefix: str | None,
        category: str | None,
        types: tuple[str, ...],
        *,
        system: bool = False,
    ) -> Wanted:
        """Build the filter from the options."""
        return cls(prefix, category, types or None, system)


def prefix_option() -> Callable[[FC], FC]:
    """Add `--prefix`."""
    return click.option(
        "--prefix", callback=utf8_only, help="Only streams whose id begins with this."
    )


def system_option() -> Callable[[FC], FC]:
    """Add `--system`."""
    return click.option(
        "--system",
        is_flag=True,
        help="Also system streams, whose ids begin with $: the library's own records.",
    )


def filter_options(command: FC) -> FC:
    """Add `--prefix`, `--category`, `--type` and `--system`."""
    options = (
        prefix_option(),
        click.option(
            "--category",
            callback=utf8_only,
            help="Only streams of this category, the part of an id before its first -.",
        ),
        click.option(
            "--type",
            "types",
            callback=utf8_only,
            multiple=True,
            help="Only events of this type; may be given several times.",
        ),
        system_option(),
    )
    for option in reversed(options):
        command = option(command)
    return command


def json_option(text: str) -> Callable[[FC], FC]:
    """Add `--json`, which a command gets as `as_json`.

    Args:
        text: The help text: the output with its fields.
    """
    return click.option("--json", "as_json", is_flag=True, help=text)


EVENT_FIELDS = """\b
Fields of an event with --json, one object per line:
  position, stream, version, type, event_id, recorded_at (UTC), metadata
  original_time  when the event happened (UTC), if its writer passed that time
  data           the event's data, if that is JSON
  data_base64    the event's data otherwise
  codec          the id of the codec that encoded the data, if one did
"""
