"""Commands of different forms on one contended stream, and commands that are given up.

The hazards: a command decides on a state that the stream no longer has, in each of its
attempts; a state whose append never happens remains published; and a link is given to
an append for which it isn't meant.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import anyio
import pytest

import eventbraid as eb
from eventbraid.command._linked_append import LinkedAppend
from eventbraid.command._port import links_appends
from eventbraid.store._async_store import AsyncEventStore
from eventbraid.store._pending_append import used_pending_append
from eventbraid.store._sync_store import EventStore
from tests.integration.test_pending_states import (
    A,
    Coins,
    Fill,
    Filled,
    Purse,
    balance,
    contended,
    filled,
    pending_of,
    together,
)

if TYPE_CHECKING:
    from collections.abc import Callable

B = "purse-b"
TASKS = 24
ROUNDS = 12
MOST_ATTEMPTS = 4
"""One conflict before the command queues, and two with appends that were in progress
when it joined the queue."""

pytestmark = pytest.mark.timeout(120)


class Fills(eb.Stream[Filled, Coins], category="purse"):
    """The number of events of a purse."""

    def initial(self):
        return Coins(0)

    def apply(self, state, event, /):
        return state + Coins(1)


class FillAsOtherKind(eb.Command):
    purse: eb.Declared[Fills]

    def decide(self):
        yield self.purse.write(Filled(Coins(1)))


class FillAsBothKinds(eb.Command):
    purse: eb.Declared[Purse]
    fills: eb.Declared[Fills]

    def decide(self):
        assert int(self.fills.state) == self.purse.version
        yield self.purse.write(Filled(Coins(1)))


class FillWithOwnState(eb.StatefulCommand[int, Filled]):
    purse: eb.Declared[Purse]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state + int(recorded.event.coins)

    def decide(self, state):
        yield self.purse.write(Filled(Coins(1)))


class Move(eb.Command):
    source: eb.Declared[Purse]
    target: eb.Declared[Purse]

    def decide(self):
        yield self.source.write(Filled(Coins(-1)))
        yield self.target.write(Filled(Coins(1)))


OTHERS = {
    "another kind": lambda: FillAsOtherKind(purse=A),
    "both kinds": lambda: FillAsBothKinds(purse=A, fills=A),
    "a state of the command": lambda: FillWithOwnState(purse=A),
    "two streams": lambda: Move(source=B, target=A),
}


@pytest.mark.anyio
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_commands_of_two_forms_need_few_attempts(
    tmp_path, other: Callable[[], eb.Command]
):
    async with eb.open_async(tmp_path / "store") as store:
        executor = eb.AsyncExecutor(store)
        await executor.execute(Fill(purse=A, coins=Coins(0)))
        for _ in range(ROUNDS):
            commands = [Fill(purse=A, coins=Coins(1)), other()] * (TASKS // 2)
            done = await together(executor, commands)
            assert max(one.attempts for one in done) <= MOST_ATTEMPTS
        assert await store.version(A) == 1 + TASKS * ROUNDS
        assert not pending_of(executor).entries


def test_threads_with_commands_of_several_forms_need_few_attempts(tmp_path):
    with eb.open(tmp_path / "store") as store:
        executor = eb.Executor(store)
        forms = [lambda: Fill(purse=A, coins=Coins(1)), *OTHERS.values()]

        def run(number: int) -> int:
            return executor.execute(forms[number % len(forms)]()).attempts

        with ThreadPoolExecutor(12) as threads:
            attempts = list(threads.map(run, range(300)))
        assert max(attempts) <= 2 * MOST_ATTEMPTS
        assert store.version(A) == 300
        assert not pending_of(executor).entries


class Page(eb.Text, max_length=200_000): ...


@eb.event("pending.page.added")
class PageAdded:
    page: Page


class Pages(eb.Stream[PageAdded, int], category="pages"):
    def initial(self):
        return 0

    def apply(self, state, event, /):
        return state + 1


class AddPage(eb.Command):
    pages: eb.Declared[Pages]
    page: Page

    def decide(self):
        yield self.pages.write(PageAdded(self.page))


def test_threads_with_large_events_need_few_attempts(tmp_path):
    """A large event takes so long to encode that other threads could append first."""
    with eb.open(tmp_path / "store") as store:
        command = AddPage(pages="pages-1", page=Page("x" * 150_000))
        with ThreadPoolExecutor(8) as threads:
            done = list(threads.map(eb.Executor(store).execute, [command] * 120))
        assert max(one.attempts for one in done) <= MOST_ATTEMPTS
        assert store.version("pages-1") == 120


@pytest.mark.anyio
async def test_executors_with_different_caches_need_few_attempts(tmp_path):
    async with eb.open_async(tmp_path / "store") as store:
        executors = [
            eb.AsyncExecutor(store),
            eb.AsyncExecutor(store, on_undecodable=lambda event, error: None),
        ]
        assert pending_of(executors[0]) is not pending_of(executors[1])
        attempts = []

        async def work(executor: eb.AsyncExecutor) -> None:
            for _ in range(ROUNDS):
                done = await executor.execute(Fill(purse=A, coins=Coins(1)))
                attempts.append(done.attempts)

        async with anyio.create_task_group() as group:
            for number in range(TASKS):
                group.start_soon(work, executors[number % 2])
        assert max(attempts) <= MOST_ATTEMPTS


@pytest.mark.anyio
async def test_a_command_that_ends_before_its_append_is_no_obstacle(
    tmp_path, monkeypatch
):
    """Ctrl-C arrives after the state was published, and nothing withdraws it."""
    async with eb.open_async(tmp_path / "store") as store:
        executor = await contended(store)
        enter = LinkedAppend.__enter__

        def interrupted(self):
            raise KeyboardInterrupt

        monkeypatch.setattr(LinkedAppend, "__enter__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await executor.execute(Fill(purse=A, coins=Coins(7)))
        monkeypatch.setattr(LinkedAppend, "__enter__", enter)
        assert pending_of(executor).entries
        done = await executor.execute(Fill(purse=A, coins=Coins(1)))
        assert done.attempts == 2
        assert (await executor.load(Purse(A))).state == Coins(1)
        assert not pending_of(executor).entries


@pytest.mark.anyio
async def test_a_command_that_is_given_up_after_its_append_is_no_obstacle(
    tmp_path, monkeypatch
):
    """Its event loop ends, so nothing withdraws the state."""
    async with eb.open_async(tmp_path / "store") as store:
        executor = await contended(store)
        with monkeypatch.context() as patched:
            patched.setattr(LinkedAppend, "end", lambda _self: None)
            await executor.execute(Fill(purse=A, coins=Coins(7)))
        assert pending_of(executor).entries
        await store.append([filled(1)])
        assert (await executor.load(Purse(A))).state == Coins(8)
        done = await executor.execute(Fill(purse=A, coins=Coins(1)))
        assert done.attempts == 1
        assert not pending_of(executor).entries


@pytest.mark.anyio
async def test_a_published_state_of_old_classes_is_not_used(tmp_path, monkeypatch):
    async with eb.open_async(tmp_path / "store") as store:
        executor = await contended(store)
        cache = executor._engine._shared.get()[1]
        seen = []
        find = type(cache.pending).find

        def noted(self, *arguments):
            found = find(self, *arguments)
            seen.append(found)
            return found

        append = AsyncEventStore.append

        async def defined_again(self, *args, **kwargs):
            if used_pending_append() is not None and not seen:
                assert cache.pending.entries
                cache.registry.generation += 1
                monkeypatch.setattr(type(cache.pending), "find", noted)
                await executor.execute(
                    Fill(purse=A, coins=Coins(1)), idempotency_key="k"
                )
            return await append(self, *args, **kwargs)

        monkeypatch.setattr(AsyncEventStore, "append", defined_again)
        await executor.execute(Fill(purse=A, coins=Coins(1)))
        assert seen[0] is None


@pytest.mark.anyio
async def test_a_caller_gets_no_conflict_with_an_expectation_that_holds(
    tmp_path, monkeypatch
):
    """The append that it builds on is refused, and the versions are right by chance."""
    path = tmp_path / "store"
    async with eb.open_async(path) as store, eb.open_async(path) as other:
        executor = await contended(store)
        append, first_has_failed = AsyncEventStore.append, anyio.Event()
        linked: list[bool] = []

        async def replaced(self, *args, **kwargs):
            if used_pending_append() is None:
                return await append(self, *args, **kwargs)
            linked.append(True)
            if len(linked) == 1:
                await append(other, [filled(1)])
                try:
                    return await append(self, *args, **kwargs)
                finally:
                    first_has_failed.set()
            await first_has_failed.wait()
            return await append(self, *args, **kwargs)

        monkeypatch.setattr(AsyncEventStore, "append", replaced)
        results = []

        async def run() -> None:
            fill = Fill(purse=A, coins=Coins(1))
            done = await executor.execute(fill, expect={B: eb.NO_STREAM})
            results.append(done)

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            group.start_soon(run)
        assert len(results) == 2
        assert (await executor.load(Purse(A))).state == Coins(3)


class AuditedStore(EventStore):
    """A user's store, whose `append` makes a further append."""

    def append(self, events, **arguments):
        super().append([("audit-1", "appended", b"")])
        return super().append(events, **arguments)


class AuditedAsyncStore(AsyncEventStore):
    async def append(self, events, **arguments):
        await super().append([("audit-1", "appended", b"")])
        return await super().append(events, **arguments)


@pytest.mark.anyio
async def test_appends_of_a_subclass_are_not_linked(tmp_path):
    async with eb.open_async(tmp_path / "store") as store:
        audited = AuditedAsyncStore(store._handle, store._coordination)
        assert links_appends(store)
        assert not links_appends(audited)
        executor, other = eb.AsyncExecutor(store), eb.AsyncExecutor(audited)
        attempts = []

        async def work(executor: eb.AsyncExecutor) -> None:
            for _ in range(ROUNDS):
                done = await executor.execute(Fill(purse=A, coins=Coins(1)))
                attempts.append(done.attempts)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(work, (executor, other)[number % 2])
        assert max(attempts) <= MOST_ATTEMPTS
        assert (await executor.load(Purse(A))).state == Coins(8 * ROUNDS)


def test_appends_of_a_subclass_are_not_linked_in_threads(tmp_path):
    with eb.open(tmp_path / "store") as store:
        audited = AuditedStore(store._handle, store._coordination)
        assert links_appends(store)
        assert not links_appends(audited)
        with ThreadPoolExecutor(4) as threads:
            fills = [Fill(purse=A, coins=Coins(1))] * 40
            list(threads.map(eb.Executor(audited).execute, fills))
        assert balance(store) == 40
        assert store.version("audit-1") >= 40
