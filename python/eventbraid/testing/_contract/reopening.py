"""Rules 1 to 4, 10 and 11 across closing, opening again, and the death of a process.

The hazard: an answer that was given and is not true any more for who comes later.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from typing import TYPE_CHECKING

import anyio.to_thread

import eventbraid as eb
from eventbraid.testing._contract.asking import filled, listed, refusal, versions
from eventbraid.testing._contract.case import ContractCase
from eventbraid.testing._contract.victim import append_until_killed

if TYPE_CHECKING:
    from eventbraid.testing._contract.backend import StoreBackend

_ACKNOWLEDGED = 20


class ReopeningContract(ContractCase):
    """What a durable backend promises beyond its closing."""

    async def test_rule_01_versions_go_on_after_a_restart(
        self, durable: StoreBackend
    ) -> None:
        """Versions are never reused, not even after a restart."""
        for expected in range(3):
            async with durable.open() as store:
                await store.append([("a", "x", b"")], expect={"a": expected})
        async with durable.open() as store:
            assert await versions(store.read_stream("a")) == [1, 2, 3]

    async def test_rule_03_the_log_after_a_restart_is_the_one_that_was_shown(
        self, durable: StoreBackend
    ) -> None:
        """Nothing appears at or below a position that was shown before a restart."""
        async with durable.open() as store:
            await filled(store, "a", "b", "a")
            shown = await listed(store.read_all())
        async with durable.open() as store:
            await filled(store, "c")
            found = await listed(store.read_all())
        assert found[:3] == shown
        assert found[3].position > shown[2].position

    async def test_rule_04_what_was_acknowledged_survives_the_death_of_the_process(
        self, durable: StoreBackend
    ) -> None:
        """An event that was acknowledged is there, whenever the process is killed."""
        acknowledged = await anyio.to_thread.run_sync(_killed_writer, durable)
        async with durable.open() as store:
            found = [(r.position, r.stream) async for r in store.read_all()]
            assert len(acknowledged) >= _ACKNOWLEDGED
            assert set(acknowledged) <= {position for position, _ in found}
            streams = [stream for _, stream in found]
            assert streams == ["a", "b"] * (len(streams) // 2)
            again = await store.append(
                [("a", "x", b""), ("b", "x", b"")], idempotency_key="k-0"
            )
            assert again.replayed

    async def test_rule_10_a_key_survives_a_restart(
        self, durable: StoreBackend
    ) -> None:
        """A key is kept as long as the log, across restarts."""
        async with durable.open() as store:
            done = await store.append([("a", "x", b"1")], idempotency_key="k")
            nothing = await store.append([], expect={"b": 0}, idempotency_key="none")
        async with durable.open() as store:
            again = await store.append([("a", "x", b"1")], idempotency_key="k")
            assert again.replayed
            assert again.last_position == done.last_position
            assert dict(again.versions) == dict(done.versions)
            late = store.append([("a", "x", b"2")], idempotency_key="k")
            await refusal(late, eb.errors.IdempotencyMismatch)
            checked = await store.append([], expect={"b": 0}, idempotency_key="none")
            assert (checked.replayed, nothing.replayed) == (True, False)
            assert await versions(store.read_stream("a")) == [1]

    async def test_rule_11_a_refused_append_writes_nothing_now_or_later(
        self, durable: StoreBackend
    ) -> None:
        """What was refused was not written, and is not there after a restart."""
        async with durable.open() as store:
            await filled(store, "a")
            late = store.append([("a", "x", b"")], expect={"a": 0}, idempotency_key="k")
            await refusal(late, eb.VersionConflict)
            await refusal(
                store.append([("a", "x", bytes(9 << 20))]), eb.errors.LimitExceeded
            )
        async with durable.open() as store:
            assert [recorded.data async for recorded in store.read_all()] == [b"1"]
            assert await store.committed("k") is None

    async def test_rule_18_a_subscription_goes_on_where_one_ended_before_a_restart(
        self, durable: StoreBackend
    ) -> None:
        """A place that was kept is good after a restart."""
        async with durable.open() as store:
            await filled(store, "a", "b", "c")
            async with store.subscribe() as subscription:
                await anext(aiter(subscription))
                place = subscription.position
        async with durable.open() as store, store.subscribe(after=place) as again:
            assert (await anext(aiter(again))).stream == "b"


def _killed_writer(backend: StoreBackend) -> list[int]:
    """Kill a process amid its appends; answer which positions it heard of."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=append_until_killed, args=(backend, sender))
    process.start()
    sender.close()
    acknowledged: list[int] = []
    with receiver, contextlib.suppress(EOFError):
        while True:
            acknowledged += receiver.recv()
            if len(acknowledged) >= _ACKNOWLEDGED:
                process.kill()
    process.join()
    process.close()
    return acknowledged
