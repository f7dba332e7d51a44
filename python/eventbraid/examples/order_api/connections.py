"""How long a connection may take over a request's head, and how many there may be.

A client that sends its request a byte at a time, or nothing at all, keeps a connection
and costs it nothing. The server bounds the number of connections; this bounds how long
each may be held without a request. How long a body may take is bounded in `intake`.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT = 10.0
"""Seconds from the connection, or from the first byte, to the end of the headers."""
MOST_CONNECTIONS = 1_000
"""Connections of one worker; a request on one more is answered with 503."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 that closes a connection whose request head is not complete in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first request."""
        super().connection_made(transport)
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time."""
        self._stop()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Start the time for a further request on the same connection."""
        super().on_message_begin()
        if self._deadline is None:
            self._start()

    def on_headers_complete(self) -> None:
        """Stop the time: from here on the application bounds the request."""
        self._stop()
        super().on_headers_complete()

    def _start(self) -> None:
        self._deadline = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
