"""A listing of many streams: whole, in order, as of its beginning, and no burden.

The hazard: a page that repeats or misses names, a stream that began meanwhile and upsets
the order, an event loop or a Ctrl-C that waits until a million names are read.
"""

from __future__ import annotations

import signal
import time

import anyio
import pytest

import eventbraid as eb
from eventbraid.store._paging import NAMES_A_PAGE
from tests.contract import programs
from tests.contract.asking import listed
from tests.contract.backends import NAMES, backends

AT_ONCE = 60.0
"""Seconds: a call that Ctrl-C does not end lasts for ever."""
STREAMS = 2 * NAMES_A_PAGE + 17

LIST_FOR_EVER = """
    import sys
    with eb.open(sys.argv[1]) as store:
        for first in range(0, 100_000, 10_000):
            names = range(first, first + 10_000)
            store.append([(f"stream-{n:07}", "x", b"x" * 100) for n in names])
        try:
            print("listing", flush=True)
            while True:
                next(store.streams())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        print(sum(1 for _ in store.streams()), flush=True)
"""


@pytest.fixture(params=NAMES)
async def store(request, tmp_path, anyio_backend):
    async with backends(tmp_path)[request.param].open() as opened:
        yield opened


async def filled_with(store, names):
    for first in range(0, len(names), NAMES_A_PAGE):
        page = names[first : first + NAMES_A_PAGE]
        await store.append([(name, "x", b"") for name in page])


@pytest.mark.anyio
async def test_streams_beyond_a_page_are_listed_once_each_and_in_order(store):
    names = [f"s-{n * 7_919 % STREAMS}" for n in range(STREAMS)]
    await filled_with(store, names)
    assert await listed(store.streams()) == sorted(names)
    ones = sorted(name for name in names if name.startswith("s-1"))
    assert await listed(store.streams("s-1")) == ones


@pytest.mark.anyio
async def test_a_stream_that_begins_meanwhile_is_for_the_next_listing(store):
    await store.append([("b", "x", b""), ("d", "x", b"")])
    names = store.streams()
    assert await anext(names) == "b"
    await store.append([("a", "x", b""), ("c", "x", b"")])
    assert [name async for name in names] == ["d"]
    assert await listed(store.streams()) == ["a", "b", "c", "d"]


@pytest.mark.anyio
async def test_a_listing_that_is_cancelled_harms_nobody(tmp_path, anyio_backend):
    names = [f"s-{n:05}" for n in range(STREAMS)]
    async with eb.open_async(tmp_path / "store.braid") as store:
        await filled_with(store, names)
        for _ in range(5):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anext(store.streams())
            assert scope.cancelled_caught
        assert await listed(store.streams()) == names


def test_ctrl_c_ends_a_listing(tmp_path):
    with programs.started(LIST_FOR_EVER, tmp_path / "store.braid") as process:
        assert programs.line(process) == "listing"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        assert programs.line(process) == "interrupted"
        assert time.monotonic() - sent < AT_ONCE
        assert programs.line(process) == "100000"
        assert process.wait(AT_ONCE) == 0
