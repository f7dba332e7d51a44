"""A slow client takes a connection for a bounded time, and not all of them.

The hazard: a client that sends a request a byte at a time holds a connection for nothing;
a few hundred such clients keep everyone else out.
"""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import ExitStack

import pytest

import eventbraid as eb
from eventbraid.examples.order_api.app import order_api
from eventbraid.examples.order_api.connections import HEAD_TIMEOUT
from tests.asgi import served
from tests.orders import an_order, headers_of
from tests.web_workers import API, Program

HEAD = (
    b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Idempotency-Key: slow-%d\r\nContent-Length: 1000\r\n\r\n"
)
SECOND = 1.0


@pytest.fixture
def port(tmp_path):
    """The port of a server with small limits."""
    options = ("--port", "0", "--workers", "1", "--connections", "40")
    with Program(
        "-m", API, tmp_path / "shop.braid", *options, "--body-timeout", str(SECOND)
    ) as server:
        yield int(server.said(r"running on http://127\.0\.0\.1:(\d+)")[0][1])


@pytest.fixture
def connected(port):
    """Connect, and send the beginning of a request; all are closed after the test."""
    with ExitStack() as opened:

        def connect(sent):
            address = ("127.0.0.1", port)
            connection = socket.create_connection(address, timeout=3 * HEAD_TIMEOUT)
            opened.enter_context(connection).sendall(sent)
            return connection

        yield connect


def placed(port, key):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("POST", "/orders", an_order(), headers_of(key))
    answer = client.getresponse()
    answer.read()
    client.close()
    return answer.status


def rest_of(connection):
    """What comes until the server closes the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_a_slow_body_is_answered_with_408_and_its_connection_closed(port, connected):
    slow = [connected(HEAD % number + b"{") for number in range(30)]
    answers = [rest_of(one) for one in slow]
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"/problems/body-too-slow" in answer
    assert placed(port, "k") == 201


def test_a_connection_without_a_request_is_closed(connected):
    began = time.monotonic()
    silent = [connected(sent) for sent in (b"", b"POST /ord", HEAD[:60])]
    assert [rest_of(one) for one in silent] == [b""] * 3
    assert time.monotonic() - began >= HEAD_TIMEOUT - 1


def test_a_connection_above_the_limit_is_refused_and_the_others_go_on(port, connected):
    held = [connected(b"GET / HTTP/1.1\r\n") for _ in range(40)]
    assert placed(port, "too-many") == 503
    for one in held:
        one.close()
    deadline = time.monotonic() + 30
    while (status := placed(port, "k")) == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert status == 201


@pytest.mark.anyio
async def test_the_application_bounds_a_body_under_any_server():
    async with served(order_api("memory:", body_timeout=0.05)) as api:
        answer = await api.ask("POST", "/orders", headers_of("k"), None)
        assert answer.status == 408
        assert answer.headers["connection"] == "close"
        store: eb.AsyncEventStore = api.state["store"]
        assert await store.head() == 0
