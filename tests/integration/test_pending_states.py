"""Commands decide on states that aren't durable yet, and nothing is lost or invented.

The hazard: a command decides on the events of another one, whose append is then
refused, while other events take their place in the stream; and a caller gets a
state that a loss of power undoes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

import eventbraid as eb
from eventbraid._native import PendingAppend
from eventbraid.command._pending_states import LONE_APPENDS
from eventbraid.command._state_cache import state_cache_of
from eventbraid.store._async_store import AsyncEventStore
from eventbraid.store._pending_append import append_as, used_pending_append

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

A = "purse-a"
TASKS = 32
ROUNDS = 10
PROCESSES = 3
COMMANDS_OF_A_PROCESS = 200
ATTEMPTS = 60
"""More attempts than a command needs next to other processes on a busy machine."""

pytestmark = pytest.mark.timeout(240)


class Coins(eb.Int): ...


NO_COINS = Coins(0)


@eb.event("pending.purse.filled")
class Filled:
    coins: Coins


class Purse(eb.Stream[Filled, Coins], category="purse"):
    def initial(self):
        return Coins(0)

    def apply(self, state, event, /):
        return state + event.coins


class Fill(eb.Command):
    purse: eb.Declared[Purse]
    coins: Coins

    def decide(self):
        eb.require(self.purse.state + self.coins >= NO_COINS, "too_few_coins")
        yield self.purse.write(Filled(self.coins))


class Empty(eb.Command):
    """Takes all coins, and is refused if there are none."""

    purse: eb.Declared[Purse]

    def decide(self):
        eb.require(self.purse.state > NO_COINS, "empty")
        yield self.purse.write(Filled(NO_COINS - self.purse.state))


def filled(coins: int) -> eb.NewEvent:
    return eb.new_event(Purse(A), Filled(Coins(coins)))


def balance(store) -> int:
    return sum(int(one.event.coins) for one in store.read_stream(Purse(A)))


async def contended(store: eb.AsyncStore) -> eb.AsyncExecutor:
    """Return an executor for which the stream counts as contended."""
    executor = eb.AsyncExecutor(store)
    await executor.execute(Fill(purse=A, coins=Coins(0)))
    await together(executor, [Fill(purse=A, coins=Coins(0))] * 4)
    assert pending_of(executor).is_contended([A])
    return executor


def pending_of(executor):
    _, cache = executor._engine._shared.get()
    return cache.pending


async def together(executor, commands) -> list[object]:
    """Execute commands at the same time; return the results or the rejections."""
    results: list[object] = [None] * len(commands)

    async def run(number: int) -> None:
        try:
            results[number] = await executor.execute(commands[number])
        except eb.CommandRejected as rejected:
            results[number] = rejected

    async with anyio.create_task_group() as group:
        for number in range(len(commands)):
            group.start_soon(run, number)
    return results


@pytest.mark.anyio
async def test_commands_on_one_stream_share_write_batches(tmp_path):
    async with eb.open_async(tmp_path / "store") as store:
        executor = await contended(store)
        before = await store.stats()
        for _ in range(ROUNDS):
            done = await together(executor, [Fill(purse=A, coins=Coins(1))] * TASKS)
            assert all(isinstance(one, eb.Executed) for one in done)
        after = await store.stats()
        assert (await executor.load(Purse(A))).state == Coins(TASKS * ROUNDS)
        assert after.conflicts == before.conflicts
        # Without shared batches there would be one for each command. A fast disk makes
        # small batches.
        assert after.write_batches - before.write_batches < TASKS * ROUNDS
        assert not pending_of(executor).entries


def before_append(
    monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], Awaitable[object]]
) -> None:
    """Let something happen before the n-th linked append from now on begins."""
    append, linked = AsyncEventStore.append, []

    async def delayed(self, *args, **kwargs):
        if used_pending_append() is not None:
            linked.append(True)
            if len(linked) == number:
                await act()
        return await append(self, *args, **kwargs)

    monkeypatch.setattr(AsyncEventStore, "append", delayed)


@pytest.mark.anyio
async def test_no_command_builds_on_events_that_another_writer_has_replaced(
    tmp_path, monkeypatch
):
    path = tmp_path / "store"
    async with eb.open_async(path) as store, eb.open_async(path) as other:
        executor = await contended(store)
        await store.append([filled(60)])
        await executor.load(Purse(A))
        append, first_has_failed = AsyncEventStore.append, anyio.Event()
        linked: list[bool] = []

        async def replaced(self, *args, **kwargs):
            """Let another writer take the place of the first linked append."""
            if used_pending_append() is None:
                return await append(self, *args, **kwargs)
            linked.append(True)
            if len(linked) == 1:
                # One event, as the command would append: the next command finds the
                # version that it expects.
                await append(other, [filled(-60)])
                try:
                    return await append(self, *args, **kwargs)
                finally:
                    first_has_failed.set()
            await first_has_failed.wait()
            return await append(self, *args, **kwargs)

        monkeypatch.setattr(AsyncEventStore, "append", replaced)
        done = await together(executor, [Fill(purse=A, coins=Coins(-20))] * 3)
        assert [one.code for one in done] == ["too_few_coins"] * 3
        coins = [int(one.event.coins) async for one in store.read_stream(Purse(A))]
        assert sum(coins) == 0
        assert not pending_of(executor).entries


@pytest.mark.anyio
async def test_an_append_that_begins_before_the_one_it_builds_on_is_repeated(
    tmp_path, monkeypatch
):
    async with eb.open_async(tmp_path / "store") as store:
        executor = await contended(store)
        version = await store.version(A)

        async def wait() -> None:
            await anyio.sleep(0.05)

        before_append(monkeypatch, 1, wait)
        done = await together(executor, [Fill(purse=A, coins=Coins(1))] * 8)
        assert all(isinstance(one, eb.Executed) for one in done)
        assert (await executor.load(Purse(A))).state == Coins(8)
        assert await store.version(A) == version + 8


@pytest.mark.anyio
async def test_load_and_rejections_report_durable_states(tmp_path, monkeypatch):
    async with eb.open_async(tmp_path / "store") as store:
        executor = await contended(store)
        seen: list[object] = []

        async def look() -> None:
            # The first command has published its state, and its append hasn't begun.
            assert pending_of(executor).entries
            seen.append((await executor.load(Purse(A))).state)
            try:
                await executor.execute(Fill(purse=A, coins=Coins(-1)))
            except eb.CommandRejected as rejected:
                seen.append(rejected.code)

        before_append(monkeypatch, 1, look)
        await executor.execute(Fill(purse=A, coins=Coins(5)))
        # Its own append was in the way of the second command, which has tried again.
        assert seen == [NO_COINS, "too_few_coins"]


@pytest.mark.anyio
async def test_a_cancelled_command_leaves_no_state_behind(tmp_path, monkeypatch):
    async with eb.open_async(tmp_path / "store") as store:
        executor = await contended(store)
        before_append(monkeypatch, 1, anyio.sleep_forever)
        with anyio.move_on_after(0.05) as scope:
            await executor.execute(Fill(purse=A, coins=Coins(5)))
        assert scope.cancelled_caught
        assert not pending_of(executor).entries
        await executor.execute(Fill(purse=A, coins=Coins(1)))
        assert (await executor.load(Purse(A))).state == Coins(1)


@pytest.mark.anyio
async def test_a_stream_that_one_command_uses_at_a_time_is_no_longer_contended(
    tmp_path,
):
    async with eb.open_async(tmp_path / "store") as store:
        executor = await contended(store)
        for _ in range(LONE_APPENDS + 1):
            await executor.execute(Fill(purse=A, coins=Coins(1)))
        assert not pending_of(executor).is_contended([A])


def test_threads_share_pending_states(tmp_path):
    with eb.open(tmp_path / "store") as store:
        executor = eb.Executor(store)
        with ThreadPoolExecutor(16) as threads:
            fill = Fill(purse=A, coins=Coins(1))
            list(threads.map(executor.execute, [fill] * 400))
        assert executor.load(Purse(A)).state == Coins(400)
        assert balance(store) == 400
        assert not pending_of(executor).entries


def test_the_cache_of_a_kind_whose_events_change_keeps_no_pending_state():
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        executor.execute(Fill(purse=A, coins=Coins(1)))
        cache = state_cache_of(store.coordination, executor._engine._decoder).get()
        cache.pending.entries[Purse, A] = ((9, Coins(9), True, 0, 0), object())
        cache.clear()
        assert not cache.pending.entries


PROGRAM = f"""
import sys, time
import anyio
import eventbraid as eb
from tests.integration.test_pending_states import A, Coins, Fill

async def main(path, start, commands):
    async with eb.open_async(path) as store:
        retry = eb.RetryPolicy(maximum_attempts={ATTEMPTS})
        executor = eb.AsyncExecutor(store, retry=retry)
        attempts = []
        async def work():
            while len(attempts) + running[0] < commands:
                running[0] += 1
                done = await executor.execute(Fill(purse=A, coins=Coins(1)))
                running[0] -= 1
                attempts.append(done.attempts)
        running = [0]
        await anyio.sleep(max(0, start - time.time()))
        async with anyio.create_task_group() as group:
            for _ in range(16):
                group.start_soon(work)
        print(len(attempts), max(attempts), flush=True)

anyio.run(main, sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
"""


def test_processes_that_write_one_stream_lose_nothing_and_none_starves(tmp_path):
    path = tmp_path / "store"
    with eb.open(path) as store:
        store.append([filled(0)])
        start, count = time.time() + 2, COMMANDS_OF_A_PROCESS
        arguments = [sys.executable, "-c", PROGRAM, str(path), str(start), str(count)]
        processes = [
            subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
            for _ in range(PROCESSES)
        ]
        try:
            reports = [process.communicate(timeout=200)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        done = [int(report.split()[0]) for report in reports]
        assert done == [count] * PROCESSES
        assert balance(store) == count * PROCESSES


def test_a_rejection_is_confirmed_when_threads_append_meanwhile(tmp_path):
    with eb.open(tmp_path / "store") as store:
        executor = eb.Executor(store)

        def run(number: int) -> int:
            try:
                if number % 2:
                    executor.execute(Fill(purse=A, coins=Coins(1)))
                else:
                    executor.execute(Empty(purse=A))
            except eb.CommandRejected:
                return 1
            return 0

        with ThreadPoolExecutor(12) as threads:
            rejected = sum(threads.map(run, range(400)))
        coins = 0
        for recorded in store.read_stream(Purse(A)):
            coins += int(recorded.event.coins)
            assert coins >= 0
        assert store.version(A) == 400 - rejected


def test_a_link_that_an_interruption_left_behind_links_no_other_append(tmp_path):
    """Ctrl-C between the change of the context variable and its reset leaves the link."""
    with eb.open(tmp_path / "store.braid") as store:
        store.append([eb.NewEvent("account-a", "x", b"{}")])
        refused = PendingAppend([])
        events = [eb.NewEvent("account-a", "x", b"{}")]
        append_as((events, refused))
        with pytest.raises(eb.VersionConflict):
            store.append(events, expect={"account-a": 7})
        append_as(([], PendingAppend([refused])))
        try:
            store.append([], expect={"account-a": eb.EXISTS})
            store.append(
                [eb.NewEvent("account-a", "x", b"{}")], expect={"account-a": 1}
            )
        finally:
            append_as(None)
        assert store.version("account-a") == 2
