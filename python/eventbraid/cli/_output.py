"""Standard output: fast, and safe for a terminal."""

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
        # It is None if the parent process has closed it; then the output is dropped.
        self._text = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
        self.is_terminal = self._text.isatty()
        self._colours = (
            self.is_terminal
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
        )
        self._encoding = self._text.encoding or "utf-8"

    def line(self, text: str = "") -> None:
        """Write a line of text; characters that the encoding lacks are escaped."""
        self._text.buffer.write(f"{text}\n".encode(self._encoding, "backslashreplace"))

    def json(self, value: object) -> None:
        """Write a value as JSON, on a line of its own.

        Control characters are escaped, those beyond ASCII too: a terminal executes
        them.
        """
        line = orjson.dumps(value, option=_JSON)
        self._text.buffer.write(_terminal_safe(line))

    def styled(
        self, text: str, *, colour: str | None = None, bold: bool = False
    ) -> str:
        """Colour a text if the output is a terminal with colours."""
        return click.style(text, fg=colour, bold=bold) if self._colours else text

    def flush(self) -> None:
        """Flush the buffer."""
        self._text.buffer.flush()

    def abandon(self) -> None:
        """Drop the rest of the buffer: Python would flush it again when it exits."""
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
    r"""Escape the characters that a terminal would execute or hide.

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
