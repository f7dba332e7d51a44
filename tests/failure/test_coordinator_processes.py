"""Shards pass from process to process, and every saga finds whoever drives it.

The hazards: sagas of a process that died or was stopped which nobody goes on with, two
processes that both drive one, and somebody who waits for ever for what another process
has blocked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga.running._shard_mapping import SHARDS
from tests.failure.coordinator_victim import STALE_AFTER, signed
from tests.peers import stop_between_writes
from tests.saga_kit import Trip, inside, trip

VICTIM = Path(__file__).with_name("coordinator_victim.py")
# The documentation promises a check every 0.1 s; the rest is for a busy machine.
SOON = 60.0
# A busy machine may keep a process from running for seconds. It would count as stopped,
# which only the tests of stopped processes want.
PATIENT = timedelta(seconds=900)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.braid"


@contextmanager
def coordinating(path: Path, stale_after: timedelta = STALE_AFTER):
    """Another process that coordinates; it is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, VICTIM, path, str(stale_after.total_seconds())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def mine(coordinator, number: int, within: float) -> None:
    """Wait until a coordinator has so many shards."""
    with anyio.fail_after(within):
        while len(coordinator._parts.state.shards.held) != number:  # noqa: ASYNC110 - no event tells
            await anyio.sleep(0.005)


async def signers(coordinator, first: int) -> set[int]:
    """Start sagas here, and tell which processes drove them."""
    handles = [
        await coordinator.start(signed, "", id=f"signed-{n}")
        for n in range(first, first + 40)
    ]
    with anyio.fail_after(30):
        return {int((await handle.result()).state) for handle in handles}


async def test_sagas_started_anywhere_are_driven_by_whoever_has_their_shard(path):
    async with (
        eb.open_async(path) as store,
        eb.SagaCoordinator(store, [signed], stale_after=PATIENT) as coordinator,
    ):
        assert await signers(coordinator, 0) == {os.getpid()}
        with coordinating(path, PATIENT) as other:
            await mine(coordinator, SHARDS // 2, SOON)
            assert await signers(coordinator, 100) == {os.getpid(), other.pid}
            assert await coordinator.list() == []
            other.communicate("")
        # It let its shards go as it left.
        await mine(coordinator, SHARDS, SOON)
        assert await signers(coordinator, 200) == {os.getpid()}


async def test_the_shards_of_a_killed_process_are_taken_at_once(path):
    async with (
        eb.open_async(path) as store,
        eb.SagaCoordinator(store, [signed], stale_after=PATIENT) as coordinator,
    ):
        with coordinating(path, PATIENT) as other:
            await mine(coordinator, SHARDS // 2, SOON)
            other.kill()
            # Long before it would count as stopped.
            await mine(coordinator, SHARDS, SOON)
        assert await signers(coordinator, 0) == {os.getpid()}


async def test_sagas_whose_code_another_process_lacks_are_driven_by_this_one(path):
    """That one was given other sagas, as while a new program is being rolled out."""
    lacking = trip(inside("book"))
    async with (
        eb.open_async(path) as store,
        eb.SagaCoordinator(
            store, [signed, lacking], stale_after=PATIENT
        ) as coordinator,
    ):
        with coordinating(path, PATIENT) as other:
            await mine(coordinator, SHARDS // 2, SOON)
            handles = [
                await coordinator.start(lacking, Trip("mia"), id=f"lacking-{n}")
                for n in range(40)
            ]
            with anyio.fail_after(SOON):
                for handle in handles:
                    assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED
            # Both go on with what both can run.
            assert await signers(coordinator, 0) == {os.getpid(), other.pid}
            assert await coordinator.blocked() == []
            other.kill()
            await mine(coordinator, SHARDS, SOON)
        assert await store.version("saga-attention") == 0


async def test_a_stopped_process_loses_its_shards_and_gets_some_back(path):
    async with (
        eb.open_async(path) as store,
        eb.SagaCoordinator(store, [signed], stale_after=STALE_AFTER) as coordinator,
    ):
        with coordinating(path) as other:
            await mine(coordinator, SHARDS // 2, SOON)
            stop_between_writes(other.pid, path)
            # Before the age is read: the rest of the time until it is stale is waited for.
            began = time.monotonic()
            age = max((await store.coordination.heartbeat_ages_async()).values())
            limit = STALE_AFTER.total_seconds()
            await mine(coordinator, SHARDS, limit + SOON)
            assert time.monotonic() - began >= limit - age
            assert await signers(coordinator, 0) == {os.getpid()}
            other.send_signal(signal.SIGCONT)
            await mine(coordinator, SHARDS // 2, SOON)
            assert await signers(coordinator, 100) == {os.getpid(), other.pid}
