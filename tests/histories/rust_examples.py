"""Example programs of the engine, without Python."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def built(example: str) -> Path:
    """Build an example of the engine, and return its path."""
    command = ["cargo", "build", "--quiet", "--locked", "--package=eventbraid-engine"]
    ended = subprocess.run(
        [*command, f"--example={example}", "--message-format=json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for line in map(json.loads, ended.stdout.splitlines()):
        if line.get("executable") and line["target"]["name"] == example:
            return Path(line["executable"])
    message = f"cargo built no {example}:\n{ended.stdout}"
    raise AssertionError(message)
