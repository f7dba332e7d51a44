"""The streams of a category, for commands that discover all streams of a kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.command._discovery import discovery_limit

if TYPE_CHECKING:
    from eventbraid.command._command_base import CommandBase
    from eventbraid.command._port import Port
    from eventbraid.command._state_cache import StateCache
    from eventbraid.store import CategoryStreams

_QUEUE = "\0"


def category_queue(category: str) -> str:
    """Return the name of the queue of commands that conflict on a category.

    No stream has this name, because ids have no control characters.
    """
    return _QUEUE + category


def queued_category(name: str) -> str | None:
    """Return the category of a queue; None if the queue is that of a stream."""
    return name.removeprefix(_QUEUE) if name.startswith(_QUEUE) else None


def category_of(stream: str) -> str:
    """Return the category of a stream."""
    return stream.partition("-")[0]


async def read_category(
    category: str,
    command: CommandBase,
    port: Port,
    cache: StateCache,
    *,
    at: int | None,
    limit: int,
) -> tuple[CategoryStreams, tuple[str, ...]]:
    """Read the streams of a category, from the cache as far as possible.

    The order of a category's streams never changes, and none is ever removed. So the
    cached streams are the first ones of every later state, and only the others are
    read. The version is always read; it says how many of the cached streams existed at
    the position.

    Args:
        category: The category.
        command: The command that discovers it.
        port: The operations of the store.
        cache: The cache of the executors of the store.
        at: The position; None for the head.
        limit: The maximum number of streams.

    Returns:
        The position and the version of the category, and the ids of its streams.

    Raises:
        DiscoveryLimit: The category has more streams than the limit.
    """
    known = cache.members.get(category, ())
    found = await port.category_streams(
        category, at=at, after=len(known), limit=max(limit - len(known), 0)
    )
    if found.version > limit:
        what = f"streams of the category {category!r}"
        raise discovery_limit(command, what, limit, found.version)
    streams = known + found.streams
    # Another command may have cached more streams during the read.
    if cache.limit and len(streams) > len(cache.members.get(category, ())):
        cache.members[category] = streams
    return found, streams[: found.version]
