"""An ASGI server without a network: one application, asked and listened to in one loop."""

from __future__ import annotations

import json
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from anyio.abc import ObjectReceiveStream

Headers = dict[str, str]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class ServerSent:
    """One event of a stream, or a comment."""

    fields: dict[str, str]
    comment: str | None = None

    @classmethod
    def of(cls, text: str) -> ServerSent:
        if text.startswith(":"):
            return cls({}, text[1:].strip())
        pairs = (line.split(": ", 1) for line in text.splitlines())
        return cls(dict(pairs))

    @property
    def name(self) -> str | None:
        return self.fields.get("event")

    @property
    def id(self) -> str:
        return self.fields["id"]

    @property
    def data(self) -> Any:
        return json.loads(self.fields["data"])


@dataclass
class Live:
    """An answer that is still coming; iterated over, it gives server-sent events."""

    status: int
    headers: Headers
    parts: ObjectReceiveStream[bytes]
    text: str = ""

    def __aiter__(self) -> Live:
        return self

    async def __anext__(self) -> ServerSent:
        while "\n\n" not in self.text:
            try:
                self.text += (await self.parts.receive()).decode()
            except anyio.EndOfStream:
                assert not self.text, "the stream ends within an event"
                raise StopAsyncIteration from None
        one, self.text = self.text.split("\n\n", 1)
        return ServerSent.of(one)

    async def named(self, *names: str) -> list[ServerSent]:
        """Listen until the last of these events, which arrive in this order."""
        wanted, heard = list(names), []
        async for event in self:
            if event.name is not None:
                heard.append(event)
            if len(heard) == len(wanted):
                break
        assert [event.name for event in heard] == wanted
        return heard


class Served:
    """An application that has started."""

    def __init__(self, app: Any, state: dict[str, Any]) -> None:
        self._app = app
        self.state = state

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | list[tuple[str, str]] = (),
        body: bytes | None = b"",
    ) -> Answer:
        async with self.listen(method, path, headers, body) as live:
            body = b"".join([part async for part in live.parts])
        return Answer(live.status, live.headers, body)

    @asynccontextmanager
    async def listen(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | list[tuple[str, str]] = (),
        body: bytes | None = b"",
    ) -> AsyncIterator[Live]:
        """Send a request; a body of None never comes."""
        pairs = list(getattr(headers, "items", lambda: headers)())
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in pairs],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": dict(self.state),
        }
        give, parts = anyio.create_memory_object_stream[bytes](math.inf)
        begun, left = anyio.Event(), anyio.Event()
        live = Live(0, {}, parts)
        whole = {"type": "http.request", "body": body, "more_body": False}
        unsent = [] if body is None else [whole]

        async def receive() -> Any:
            if unsent:
                return unsent.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                live.status = message["status"]
                live.headers = {k.decode(): v.decode() for k, v in message["headers"]}
                begun.set()
                return
            await give.send(message["body"])
            if not message.get("more_body"):
                give.close()

        async def run() -> None:
            try:
                await self._app(scope, receive, send)
            finally:
                begun.set()
                give.close()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            with parts:
                await begun.wait()
                yield live
            # The client is gone: the application has to come to its end by itself.
            left.set()


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[Served]:
    """Start an application and end it, as a server does."""
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
    begun, ending, ended = anyio.Event(), anyio.Event(), anyio.Event()
    messages: list[Any] = []

    async def receive() -> Any:
        if begun.is_set():
            await ending.wait()
            return {"type": "lifespan.shutdown"}
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        messages.append(message)
        (ended if begun.is_set() else begun).set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, scope, receive, send)
        await begun.wait()
        assert messages[-1]["type"] == "lifespan.startup.complete", messages
        yield Served(app, state)
        ending.set()
        await ended.wait()
        assert messages[-1]["type"] == "lifespan.shutdown.complete", messages
