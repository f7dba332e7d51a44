"""Text that shows what a command decided, and how it differs from what was expected."""

from __future__ import annotations

import difflib
from pprint import pformat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDTH = 76


def difference(expected: Sequence[str], actual: Sequence[str], label: str) -> str:
    """Return both texts as one: ``-`` marks expected lines, ``+`` actual ones.

    Args:
        expected: The lines of what was expected.
        actual: The lines of what happened.
        label: What the actual lines are: ``"decided"``.
    """
    compared = difflib.ndiff(expected, actual)
    # Lines that begin with ? point at characters, and hide the events among them.
    lines = [line for line in compared if not line.startswith("?")]
    return "\n".join([f"- expected, + {label}:", *lines])


def lines_of_events(events: Iterable[tuple[str, object]]) -> list[str]:
    """Return the lines that show some events, each below the id of its stream."""
    lines: list[str] = []
    last = None
    for stream, event in events:
        if stream != last:
            lines.append(f"on {stream}")
        last = stream
        lines += [f"    {line}" for line in lines_of_value(event)]
    return lines or ["no events"]


def lines_of_value(value: object) -> list[str]:
    """Return the lines that show a value; a long one takes several."""
    return pformat(value, width=_WIDTH, sort_dicts=False).splitlines()
