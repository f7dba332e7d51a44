"""A commit costs the same next to thousands of subscriptions that it doesn't concern.

Processor time and not time of day, and as a ratio in one run: a busy machine makes both
slow alike.
"""

from __future__ import annotations

import asyncio
import time

import pytest

import eventbraid as eb

pytestmark = pytest.mark.timeout(120)
COMMITS = 40
FACTOR = 8


async def _cost(path, idle, **wanted):
    """Return the processor seconds of a commit next to idle subscriptions."""
    async with eb.open_async(path) as store:
        await store.append([("a-1", "x", b"")])

        async def follow(number):
            named = {name: f"{value}{number}" for name, value in wanted.items()}
            if "types" in named:
                named["types"] = [named["types"]]
            async for _ in store.subscribe(**named):
                pass

        tasks = [asyncio.create_task(follow(number)) for number in range(idle)]
        await _until_all_wait()
        costs = []
        for _ in range(5):
            begin = time.process_time()
            for _ in range(COMMITS):
                await store.append([("a-1", "x", b"")])
            await asyncio.sleep(0.05)
            costs.append((time.process_time() - begin) / COMMITS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return min(costs)


async def _until_all_wait():
    """Wait until each has read the log, so what follows costs the commits alone."""
    is_idle = False
    while not is_idle:
        begin = time.process_time()
        await asyncio.sleep(0.2)
        is_idle = time.process_time() - begin < 0.01


@pytest.mark.parametrize("name", ["stream", "category", "prefix", "types"])
def test_idle_subscriptions_cost_a_commit_next_to_nothing(tmp_path, name):
    none = asyncio.run(_cost(tmp_path / "none", 0))
    many = asyncio.run(_cost(tmp_path / "many", 2_000, **{name: "other-"}))
    assert many <= FACTOR * none, (none, many)
