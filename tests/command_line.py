"""The command `eventbraid` as a process of its own, and stores for it to look into."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

EVENTBRAID = (sys.executable, "-m", "eventbraid")


def usual_environment(**more: str) -> dict[str, str]:
    """The environment of a user, whose output is buffered unless the command sees to it."""
    usual = {**os.environ, **more}
    usual.pop("PYTHONUNBUFFERED", None)
    return usual


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen:
    """Start the command with pipes on all sides."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(
        [*EVENTBRAID, *map(str, arguments)],
        **{"env": usual_environment(), **pipes, **options},
    )


def ran(*arguments: str | Path, given: bytes = b"", **options: Any) -> Any:
    """Run the command to its end; nothing that it says may be a trace."""
    done = subprocess.run(
        [*EVENTBRAID, *map(str, arguments)],
        input=given,
        capture_output=True,
        check=False,
        timeout=120,
        **options,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def json_lines(text: str | bytes) -> list[dict[str, Any]]:
    """Decode what was printed, one object a line."""
    return [json.loads(line) for line in text.splitlines()]


def on_a_terminal(
    *arguments: str | Path, typed: bytes = b"", **environment: str
) -> tuple[int, bytes]:
    """Run the command on a pseudo-terminal; give its exit code and what is shown."""
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    with subprocess.Popen(
        [*EVENTBRAID, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **environment},
    ) as process:
        os.close(theirs)
        shown = b""
        # An error is how Linux says that a terminal's other side is closed.
        with os.fdopen(ours, "rb", buffering=0) as terminal, suppress(OSError):
            while part := terminal.read(4096):
                shown += part
    return process.returncode, shown
