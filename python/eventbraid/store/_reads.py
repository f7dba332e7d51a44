"""Reads of an event loop that leave their checkpoint to the append after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid._native import Appended, StreamsSnapshot
from eventbraid.store._completion import unwrapped
from eventbraid.store._event_loop import current_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventbraid.store._handle import Handle


class NativeReads:
    """The reads of a store of the engine without a checkpoint of their own."""

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle) -> None:
        """Read the store of a handle."""
        self._handle = handle

    async def committed(
        self, idempotency_key: str, *, content: bytes | None = None
    ) -> Appended | None:
        """Return the result of an earlier append under an idempotency key."""
        native = await self._handle.own_async()
        port = current_port()
        found = native.committed_async(port.native, idempotency_key, content)
        if not isinstance(found, int):
            return found
        late = await port.result(found)
        return None if late is None else unwrapped(late, Appended)

    async def read_streams(
        self,
        streams: Iterable[str],
        *,
        at: int | None = None,
        after: Mapping[str, int] | None = None,
    ) -> StreamsSnapshot:
        """Read several streams as of one position."""
        native = await self._handle.own_async()
        port = current_port()
        found = native.read_streams_async(port.native, streams, at, after)
        if isinstance(found, int):
            found = unwrapped(await port.result(found), StreamsSnapshot)
        while found._fill():  # noqa: SLF001 - of the same layer
            await port.checkpoint()
        return found
