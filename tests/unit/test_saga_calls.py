"""A call that is made alone has no other call beside it, and holds none back for ever."""

from __future__ import annotations

import anyio
import pytest

from eventbraid.saga.running import _calls
from eventbraid.saga.running._calls import Calls

pytestmark = pytest.mark.anyio


async def test_a_call_made_alone_waits_for_the_others_and_holds_them_back():
    calls, log = Calls(), []
    await calls.begin("saga-1")

    async def alone():
        async with calls.alone("saga-2"):
            log.append("alone")
            await anyio.wait_all_tasks_blocked()
        log.append("no longer alone")

    async def another():
        await calls.begin("saga-3")
        log.append("another")
        calls.end("saga-3")

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alone)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(another)
            await anyio.wait_all_tasks_blocked()
            assert log == []
            calls.end("saga-1")
    assert log == ["alone", "no longer alone", "another"]


async def test_calls_made_alone_take_turns():
    calls, under_way, most = Calls(), 0, 0

    async def alone(saga_id: str) -> None:
        nonlocal under_way, most
        async with calls.alone(saga_id):
            under_way += 1
            most = max(most, under_way)
            await anyio.sleep(0.001)
            under_way -= 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(alone, f"saga-{number}")
    assert most == 1


async def test_a_call_that_waits_for_another_saga_holds_nothing_back():
    """Else the other saga's call could only begin when this one has timed out."""
    calls = Calls()
    with anyio.fail_after(60):
        async with calls.alone("saga-parent"):
            assert calls.pause("saga-parent")
            await calls.begin("saga-child")
            calls.end("saga-child")
            async with calls.alone("saga-child"):
                pass
            calls.resume("saga-parent")
        await calls.begin("saga-parent")
        assert calls.pause("saga-parent")
        async with calls.alone("saga-child"):
            pass
        calls.resume("saga-parent")
        calls.end("saga-parent")
        async with calls.alone("saga-child"):
            assert not calls.pause("saga-parent")


async def test_a_call_that_is_cancelled_while_it_waits_holds_nothing_back():
    calls = Calls()
    await calls.begin("saga-1")
    with anyio.move_on_after(0.01):
        async with calls.alone("saga-2"):
            raise AssertionError
    with anyio.fail_after(60):
        await calls.begin("saga-3")


async def test_a_call_made_alone_is_alone_in_its_process():
    calls, elsewhere, log = Calls(), Calls(), []
    await elsewhere.begin("saga-1")

    async def alone():
        async with calls.alone("saga-2") as is_alone:
            log.append(f"alone: {is_alone}")
            await anyio.sleep(0.05)
        log.append("no longer alone")

    async def another():
        await elsewhere.begin("saga-3")
        log.append("another")
        elsewhere.end("saga-3")

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alone)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(another)
            await anyio.sleep(0.05)
            assert log == []
            elsewhere.end("saga-1")
    assert log == ["alone: True", "no longer alone", "another"]


async def test_coordinators_whose_calls_wait_for_each_other_hold_nothing_back():
    calls, elsewhere = Calls(), Calls()
    with anyio.fail_after(60):
        async with calls.alone("saga-parent"):
            assert calls.pause("saga-parent")
            await elsewhere.begin("saga-child")
            elsewhere.end("saga-child")
            async with elsewhere.alone("saga-child") as is_alone:
                assert is_alone


async def test_a_coordinator_that_hangs_holds_back_the_others_for_a_while_only(
    monkeypatch,
):
    monkeypatch.setattr(_calls, "_MAXIMUM_WAIT_SECONDS", 0.05)
    calls, hanging = Calls(), Calls()
    await hanging.begin("saga-1")
    with anyio.fail_after(60):
        async with calls.alone("saga-2") as is_alone:
            assert not is_alone
        hanging.end("saga-1")
        async with hanging.alone("saga-1"):
            await calls.begin("saga-2")
            calls.end("saga-2")
        async with calls.alone("saga-2") as is_alone:
            assert is_alone


async def test_a_forked_child_waits_for_no_call_of_its_parent(monkeypatch):
    """Nor for a lock that a thread of the parent held during the fork."""
    monkeypatch.setattr(_calls, "_process", _calls._Process())
    async with Calls().alone("saga-1"):
        _calls._process._lock.acquire()
        monkeypatch.setattr(_calls.os, "getpid", lambda: 0)
        with anyio.fail_after(60):
            calls = Calls()
            await calls.begin("saga-2")
            calls.end("saga-2")
