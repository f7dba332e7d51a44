"""Leases that live in an event loop are lost when the loop hangs.

The hazard: the engine's heartbeat comes from a thread of its own, which runs on while an
event loop hangs. The process would look alive, keep its leases and do nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

import eventbraid as eb
from tests.failure.hung_loop_victim import MAY_HANG, SECOND, signed

VICTIM = Path(__file__).with_name("hung_loop_victim.py")
BACKENDS = ["asyncio", "trio"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.braid"


@contextmanager
def hanging(path: Path, backend: str, what: str):
    """A process whose event loop hangs; it is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, VICTIM, path, backend, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, MAY_HANG: "1"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "hanging\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lease_held_by_a_hung_event_loop_is_taken_and_its_late_append_refused(
    path, backend
):
    with (
        eb.open(path) as store,
        hanging(path, backend, "lease") as victim,
        eb.Lease(store, "importer", stale_after=SECOND, wait=120 * SECOND) as lease,
    ):
        lease.append([("order-1", "imported", b"in time")])
        out, _ = victim.communicate("continue\n", timeout=120)
        assert out == "lost\n"
        assert [r.data for r in store.read_stream("order-1")] == [b"in time"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_sagas_of_a_hung_event_loop_are_driven_by_another_process(path, backend):
    async def main() -> None:
        with hanging(path, backend, "saga") as victim:
            async with (
                eb.open_async(path) as store,
                eb.SagaCoordinator(store, [signed], stale_after=SECOND) as coordinator,
            ):
                handle = await coordinator.get(signed, "saga-hung")
                ended = await handle.result(timeout=120 * SECOND)
                assert ended.state == str(os.getpid())
                before = [r.type async for r in store.read_stream("saga-hung")]
                out, _ = await anyio.to_thread.run_sync(
                    lambda: victim.communicate("continue\n", timeout=120)
                )
                # What it returned late isn't recorded; it learns the result of the other.
                assert out == f"{os.getpid()}\n"
                after = [r.type async for r in store.read_stream("saga-hung")]
                assert after == before
                assert before.count("saga.step_succeeded") == 1

    anyio.run(main, backend="asyncio")


@pytest.mark.parametrize("backend", BACKENDS)
def test_within_a_process_only_the_leases_of_the_hung_event_loop_are_lost(
    path, backend
):
    entered, wake = threading.Event(), threading.Event()
    ends: list[str] = []

    async def hang() -> None:
        try:
            async with eb.AsyncLease(store.as_async(), "hung", stale_after=SECOND):
                entered.set()
                wake.wait(60)
        except eb.errors.LeaseLost:
            ends.append("lost")

    with eb.open(path) as store, eb.Lease(store, "held"):
        thread = threading.Thread(
            target=anyio.run, args=(hang,), kwargs={"backend": backend}
        )
        thread.start()
        try:
            assert entered.wait(60)
            with (
                pytest.raises(eb.LeaseHeld),
                eb.Lease(store, "held", stale_after=3 * SECOND, wait=4 * SECOND),
            ):
                pass
            with eb.Lease(store, "hung", stale_after=SECOND, wait=120 * SECOND):
                pass
        finally:
            wake.set()
            thread.join()
    assert ends == ["lost"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_event_loop_that_only_waits_keeps_its_leases(path, backend):
    async def main() -> None:
        async with (
            eb.open_async(path) as one,
            eb.open_async(path) as two,
            eb.AsyncLease(one, "importer") as lease,
        ):
            began = anyio.current_time()
            # The loop's heartbeat goes on by itself: after a while it is more recent than
            # all that this task has done since.
            while True:
                await anyio.sleep(0.5)
                [age] = (await two.coordination.heartbeat_ages_async()).values()
                if age < anyio.current_time() - began - 1.0:
                    break
            # For as long as this process may be kept from running, the lease is held.
            with pytest.raises(eb.LeaseHeld):
                async with eb.AsyncLease(two, "importer", stale_after=60 * SECOND):
                    pass
            await lease.append([("order-1", "imported", b"")])

    anyio.run(main, backend=backend)
