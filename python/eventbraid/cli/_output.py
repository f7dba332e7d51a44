"""Standard output: much of it, quickly, and fit for whoever reads it."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import orjson

if TYPE_CHECKING:
    from collections.abc import Generator

_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_CONTROLS = re.compile("[\x7f-\x9f]")
_JOINER = "\N{ZERO WIDTH JOINER}"


class Output:
    """Standard output, as lines of text and of JSON."""

    def __init__(self) -> None:
        # Closed by whoever started us, it is None: nobody wants to read.
        self._text = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        self.is_terminal = self._text.isatty()
        self._colours = (
            self.is_terminal
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
        )
        self._encoding = self._text.encoding or "utf-8"

    def line(self, text: str = "") -> None:
        """Write a line of text; what the reader's encoding lacks is escaped."""
        self._text.buffer.write(f"{text}\n".encode(self._encoding, "backslashreplace"))

    def json(self, value: object) -> None:
        """Write a value as JSON, on a line of its own.

        Control characters are escaped, those beyond ASCII too: a terminal obeys them.
        """
        line = orjson.dumps(value, option=_JSON)
        self._text.buffer.write(_terminal_safe(line))

    def styled(
        self, text: str, *, colour: str | None = None, bold: bool = False
    ) -> str:
        """Colour a text, if the reader is a terminal that wants it."""
        return click.style(text, fg=colour, bold=bold) if self._colours else text

    def flush(self) -> None:
        """Pass on all that was written."""
        self._text.buffer.flush()

    def abandon(self) -> None:
        """Drop what could not be passed on: Python would try again when it exits."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._text.fileno())


@contextmanager
def output() -> Generator[Output]:
    """Open standard output for a block; flush it at the end."""
    made = Output()
    try:
        yield made
    finally:
        try:
            made.flush()
        except OSError:
            made.abandon()
            raise


def printable(text: str) -> str:
    r"""Escape what a terminal would obey or hide instead of showing it.

    Example:
        >>> printable("red\x1b[31m")
        'red\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(
        one if _is_harmless(one) else one.encode("unicode_escape").decode()
        for one in text
    )


def counted(count: int, thing: str) -> str:
    """Format a count with its noun.

    Example:
        >>> counted(1, "event"), counted(2_000, "event")
        ('1 event', '2,000 events')
    """
    return f"1 {thing}" if count == 1 else f"{count:,} {thing}s"


def _terminal_safe(line: bytes) -> bytes:
    # JSON escapes the control characters below U+0020 by itself.
    if line.isascii() and b"\x7f" not in line:
        return line
    return _CONTROLS.sub(_json_escape, line.decode()).encode()


def _json_escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _is_harmless(character: str) -> bool:
    return character.isprintable() or character == _JOINER
