"""The machine in one line: a figure without it cannot be compared."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe_machine(directory: Path) -> str:
    """Name the processor, its cores, the system, Python and the file system.

    Args:
        directory: A directory on the disk that is measured.

    Returns:
        One line, such as ``AMD EPYC 7763, 2 cores; Linux 6.18; CPython 3.11.7; ext4``.
    """
    return "; ".join(
        (
            f"{_processor()}, {_cores()} cores",
            f"{platform.system()} {platform.release()}",
            f"{platform.python_implementation()} {platform.python_version()}",
            _file_system(directory),
        )
    )


def _processor() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.processor() or platform.machine()


def _cores() -> int:
    """The cores this process may use, which a container makes fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _file_system(directory: Path) -> str:
    """The type of the mount that holds the directory: the longest one above it."""
    where = directory.resolve()
    best, kind = Path("/"), "unknown file system"
    for line in _lines(Path("/proc/mounts")):
        _, point, found, *_ = line.split()
        mount = Path(point)
        if where.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, found
    return kind


def _lines(path: Path) -> list[str]:
    """The lines of a file that only some systems have."""
    return path.read_text().splitlines() if path.exists() else []
