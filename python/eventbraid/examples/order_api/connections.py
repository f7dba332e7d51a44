"""The limits on the connections of a worker: their number, and the time for headers.

A client that sends its request a byte at a time, or nothing at all, occupies a
connection at no cost of its own. The server limits the number of connections, and this
module the time for which a connection may be open without a complete request head. The
time for a body is limited in `intake`.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT = 10.0
"""Seconds from the connection, or from the first byte, to the end of the headers."""
MOST_CONNECTIONS = 1_000
"""The maximum number of connections of a worker; beyond it, 503."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 that closes a connection whose request head takes too long."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first request."""
        super().connection_made(transport)
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._stop()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Start the timeout of a further request on the same connection."""
        super().on_message_begin()
        if self._deadline is None:
            self._start()

    def on_headers_complete(self) -> None:
        """Stop the timeout: from here on the application limits the request."""
        self._stop()
        super().on_headers_complete()

    def _start(self) -> None:
        self._deadline = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
