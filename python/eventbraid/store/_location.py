"""The location of a store: a directory, or the memory of the process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from eventbraid.errors import InvalidArgument

MEMORY = "memory:"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store lives.

    Attributes:
        name: The location as the caller gave it.
        path: The path of the directory, or None for a store in memory.
        base: Where the path begins: the working directory when it was given. None for a
            path that begins at the root.
    """

    name: str
    path: str | None
    base: str | None = None

    @classmethod
    def parse(cls, location: str | os.PathLike[str]) -> Location:
        """Distinguish a store in memory from a directory.

        Raises:
            InvalidArgument: If it names a kind of store that this version doesn't have,
                or is relative to a working directory that no longer exists.
            TypeError: If it is neither a string nor a path.
        """
        path = os.fsdecode(location)
        if path == MEMORY:
            return cls(path, None)
        if not path or "\0" in path:
            reason = 'give the path of a directory, or "memory:"'
            raise InvalidArgument("location", path, reason)
        try:
            os.fsencode(path)
        except UnicodeEncodeError:
            reason = "it holds a lone surrogate, which no file name has"
            raise InvalidArgument("location", path, reason) from None
        if "://" in path:
            reason = 'this version opens directories and "memory:" only'
            raise InvalidArgument("location", path, reason)
        return cls(path, path, _base_of(path))


def _base_of(path: str) -> str | None:
    """Return the directory that a relative path begins at, now and after `os.chdir`."""
    if Path(path).is_absolute():
        return None
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        reason = "the working directory was removed; give the path from the root"
        raise InvalidArgument("location", path, reason) from None
