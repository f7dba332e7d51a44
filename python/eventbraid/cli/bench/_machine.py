"""The machine in one line, without which measurements can't be compared."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe_machine(directory: Path) -> str:
    """Return the processor, its cores, the system, Python and the file system.

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
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _file_system(directory: Path) -> str:
    """Return the type of the file system: that of the longest mount point above."""
    where = directory.resolve()
    best, kind = Path("/"), "unknown file system"
    for line in _lines(Path("/proc/mounts")):
        _, point, found, *_ = line.split()
        mount = Path(point)
        if where.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, found
    return kind


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; none if this system doesn't have it."""
    return path.read_text().splitlines() if path.exists() else []
