"""Events on standard output: in columns, or one JSON object per line."""

from __future__ import annotations

import base64
import shutil
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import msgspec
import orjson

from eventbraid.cli._output import printable
from eventbraid.event import codec_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    import eventbraid as eb
    from eventbraid.cli._output import Output

_FILE_WIDTH = 120
_WIDEST_STREAM = 48
_INDENT = "    "
_AT_ONCE = 64
_SHOWN_BYTES = 32
_SPACES = bytes.maketrans(b"\n\r\t", b"   ")


class EventPrinter(Protocol):
    """Prints events."""

    def show(self, events: Iterable[eb.RecordedEvent]) -> int:
        """Print events, and return their number."""
        ...


def event_printer(out: Output, *, as_json: bool) -> EventPrinter:
    """Build the printer for the format that was requested."""
    return _JsonLines(out) if as_json else _Columns(out)


# --- for programs


class _JsonLines:
    def __init__(self, out: Output) -> None:
        self._out = out

    def show(self, events: Iterable[eb.RecordedEvent]) -> int:
        count = 0
        for count, recorded in enumerate(events, start=1):  # noqa: B007
            self._out.json(json_fields(recorded))
        return count


def json_fields(recorded: eb.RecordedEvent) -> dict[str, object]:
    """Return an event's fields; data that isn't JSON is written in base64.

    Data that a codec has encoded is printed as it is stored, because the command line
    has neither the codecs nor the keys of the application.
    """
    fields: dict[str, object] = {
        "position": recorded.position,
        "stream": recorded.stream,
        "version": recorded.version,
        "type": recorded.type,
        "event_id": recorded.event_id,
        "recorded_at": recorded.recorded_at,
        "metadata": dict(recorded.metadata),
    }
    if recorded.original_time is not None:
        fields["original_time"] = recorded.original_time
    data = recorded.data
    if _is_json(data):
        # Not decoded and encoded again: numbers keep every digit. Line breaks and tabs
        # occur only between tokens, where a space means the same.
        fields["data"] = orjson.Fragment(data.translate(_SPACES))
    else:
        fields["data_base64"] = base64.b64encode(data).decode()
        codec = codec_id(data)
        if codec is not None:
            fields["codec"] = codec
    return fields


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


# --- for people


class _Columns:
    """One line per event, its data below; a column widens when its content does."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._width = _FILE_WIDTH
        if out.is_terminal:
            self._width = shutil.get_terminal_size().columns
        self._position = len("position")
        self._stream = len("stream")
        self._version = len("version")
        self._headed = False

    def show(self, events: Iterable[eb.RecordedEvent]) -> int:
        remaining = iter(events)
        count = 0
        while some := list(islice(remaining, _AT_ONCE)):
            self._widen(some)
            for recorded in some:
                self._show(recorded)
            count += len(some)
        return count

    def _widen(self, events: list[eb.RecordedEvent]) -> None:
        for recorded in events:
            stream = min(_cells(printable(recorded.stream)), _WIDEST_STREAM)
            self._stream = max(self._stream, stream)
            self._position = max(self._position, len(str(recorded.position)))
            self._version = max(self._version, len(str(recorded.version)))

    def _show(self, recorded: eb.RecordedEvent) -> None:
        if not self._headed:
            self._headed = True
            self._head()
        out = self._out
        time = f"{recorded.recorded_at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
        place = f"{recorded.position:>{self._position}}  {time}"
        stream = _padded(printable(recorded.stream), self._stream)
        version = f"{recorded.version:>{self._version}}"
        kind = printable(recorded.type)
        out.line(
            f"{out.styled(place, colour='bright_black')}  {stream}  {version}  "
            f"{out.styled(kind, bold=True)}"
        )
        if recorded.metadata:
            text = orjson.dumps(dict(recorded.metadata)).decode()
            out.line(
                out.styled(
                    f"{_INDENT}metadata {printable(text)}", colour="bright_black"
                )
            )
        for line in body_lines(recorded.data, self._width - len(_INDENT)):
            out.line(f"{_INDENT}{line}")

    def _head(self) -> None:
        time = "time (UTC)".ljust(len("2026-01-31 12:00:00.000"))
        stream = "stream".ljust(self._stream)
        heading = (
            f"{'position':>{self._position}}  {time}  {stream}  "
            f"{'version':>{self._version}}  type"
        )
        self._out.line(self._out.styled(heading, bold=True))


def body_lines(data: bytes, width: int) -> list[str]:
    """Format an event's data: as JSON, as text, or as a description of its bytes.

    Example:
        >>> body_lines(b'{"paid":[1.10,2]}', 80)
        ['{"paid": [1.10, 2]}']
        >>> body_lines(b'{"paid":[1.10,2]}', 8)[:2]
        ['{', '  "paid": [']
        >>> body_lines(b"hello", 80), body_lines(bytes([0, 255]), 80)
        (['5 bytes of text: hello'], ['2 bytes: 00 ff'])
        >>> body_lines(bytes([0xC1, 1, 4]) + b"zlib" + bytes([0x78, 0x9C]), 80)
        ["encoded by the codec 'zlib', 9 bytes: c1 01 04 7a 6c 69 62 78 9c"]
    """
    if not data:
        return ["no data"]
    codec = codec_id(data)
    if codec is not None:
        return [f"encoded by the codec {codec!r}, {_hexadecimal(data)}"]
    if _is_json(data):
        return _json_lines(data, width)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return [_hexadecimal(data)]
    if "\0" in text:
        return [_hexadecimal(data)]
    return [f"{len(data):,} bytes of text: {printable(text)}"]


def _json_lines(data: bytes, width: int) -> list[str]:
    """Format JSON on one line if that fits, else indented; all digits are kept."""
    try:
        one_line = printable(msgspec.json.format(data, indent=0).decode())
        if _cells(one_line) <= width:
            return [one_line]
        lines = msgspec.json.format(data, indent=2).decode().split("\n")
    except RecursionError:
        lines = data.decode().split("\n")
    return [printable(line) for line in lines]


def _hexadecimal(data: bytes) -> str:
    shown = data[:_SHOWN_BYTES].hex(" ")
    more = " ... (all of it with --json)" if len(data) > _SHOWN_BYTES else ""
    return f"{len(data):,} bytes: {shown}{more}"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _cells(text))


def _cells(text: str) -> int:
    """Return the width of a text on a terminal: some characters take two columns."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
