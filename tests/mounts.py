"""File systems that tests mount, and the removal of those that an earlier run left.

The hazard: a run that was killed leaves a mount below pytest's temporary root, and
pytest's own removal of old directories then deletes through it, or fails.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

MARK = ".eventbraid-mount"
"""A file beside a mounted directory; it has the id of the process that mounted it."""


@contextlib.contextmanager
def mounted(place: Path, *options: str) -> Iterator[str]:
    """Mount something on a directory and unmount it at the end.

    Yields:
        Why nothing could be mounted; empty if it could.
    """
    with marked(place):
        done = subprocess.run(
            ["mount", *options, str(place)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            yield done.stderr.strip() or "mount failed"
            return
        try:
            yield ""
        finally:
            unmount(place)


@contextlib.contextmanager
def marked(place: Path) -> Iterator[None]:
    """Mark a directory as mounted by this process, before it is."""
    mark = place.with_name(place.name + MARK)
    mark.write_text(str(os.getpid()))
    yield
    # Only of a mount that has ended: an error of `unmount` leaves the mark.
    mark.unlink()


def unmount(place: Path) -> None:
    """Unmount a directory; lazily, as a failed test may still have files open there."""
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def unmount_leftovers(root: Path) -> list[Path]:
    """Unmount what interrupted runs of these tests left mounted below a root.

    Anything else is left alone: mounts that these tests have not marked, and those of a
    process that is still alive.
    """
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return []
    places = [
        Path(_unescaped(line.split()[1])) for line in mounts.read_text().splitlines()
    ]
    below = [place for place in places if place.is_relative_to(root.resolve())]
    left = []
    # The innermost first.
    for place in sorted(below, key=lambda place: -len(place.parts)):
        mark = place.with_name(place.name + MARK)
        if mark.exists() and not _is_alive(mark.read_text()):
            unmount(place)
            mark.unlink()
            left.append(place)
    return left


def _is_alive(process: str) -> bool:
    return process.isdecimal() and Path("/proc", process).exists()


def _unescaped(path: str) -> str:
    for code in ("040", "011", "012", "134"):
        path = path.replace(f"\\{code}", chr(int(code, 8)))
    return path
