"""The order API as real processes: servers to ask over HTTP, to stop and to kill."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.asgi import Answer, ServerSent
from tests.orders import an_order, headers_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

API = "eventbraid.examples.order_api"
WAIT = 60


class Program:
    """A process whose log is read as it comes; it is gone when the block is left."""

    def __init__(self, *arguments: str | Path, **environment: str) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # What it starts is in its group, and is ended with it.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def said(self, pattern: str, *, times: int = 1) -> list[re.Match[str]]:
        """Wait until a number of lines of its log match the pattern."""

        def found() -> list[re.Match[str]]:
            return [m for m in (re.search(pattern, line) for line in self.lines) if m]

        with self._news:
            self._news.wait_for(lambda: self._ended or len(found()) >= times, WAIT)
            matches = found()
        assert len(matches) >= times, f"no {pattern!r} in:\n{''.join(self.lines)}"
        return matches

    def ask_to_end(self) -> int:
        """Send SIGTERM, and wait for the exit code."""
        self._process.terminate()
        return self._process.wait(WAIT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(WAIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A process group exists as long as one of its processes does.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            assert self._process.poll() is not None
        self._process.wait(WAIT)
        self._reader.join(WAIT)
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Worker(Program):
    """A server with one worker, at a port of its own: who answers is no chance."""

    def __init__(self, store: Path) -> None:
        super().__init__(
            "-m",
            "uvicorn",
            "--factory",
            f"{API}.app:from_environment",
            "--port",
            "0",
            ORDER_API_STORE=str(store),
        )

    @property
    def port(self) -> int:
        return int(self.said(r"running on http://127\.0\.0\.1:(\d+)")[0][1])


@contextmanager
def workers(store: Path, count: int) -> Iterator[list[Worker]]:
    """Start workers at the same time, on a store that may not be there yet."""
    started = [Worker(store) for _ in range(count)]
    try:
        for worker in started:
            assert worker.port
        yield started
    finally:
        for worker in started:
            worker.__exit__()


@dataclass
class Client:
    """One connection to a server."""

    port: int

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=WAIT
        )

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body=b""
    ) -> Answer:
        self._connection.request(method, path, body, headers or {})
        answer = self._connection.getresponse()
        pairs = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, pairs, answer.read())

    def place(self, key: str, **changes: Any) -> Answer:
        return self.ask("POST", "/orders", headers_of(key), an_order(**changes))

    def follow(self, events: str, **headers: str) -> Iterator[ServerSent]:
        """Listen to a live stream, to its end."""
        self._connection.request("GET", events, headers=headers)
        lines: list[str] = []
        with self._connection.getresponse() as answer:
            assert answer.status == 200, answer.read()
            for line in answer:
                if line.strip():
                    lines.append(line.decode())
                else:
                    yield ServerSent.of("".join(lines))
                    lines.clear()
        assert not lines

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def next_named(stream: Iterator[ServerSent]) -> ServerSent:
    """The next event that is more than a sign of life."""
    return next(event for event in stream if event.name)


def json_of(line: str) -> Any:
    return json.loads(line)
