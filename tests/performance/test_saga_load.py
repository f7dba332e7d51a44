"""Many sagas at once: none is lost, none is left at work, and no thread is added.

Figures belong to the benches; this is behaviour under load.
"""

from __future__ import annotations

import threading
from collections import Counter

import anyio
import pytest

import eventbraid as eb
from tests.saga_kit import Receiver, Trip, inside, outside, trip

pytestmark = pytest.mark.anyio
SAGAS = 1_500


async def test_many_sagas_end_each_in_one_way(tmp_path):
    receiver = Receiver()
    for n in range(0, SAGAS, 5):
        receiver.plan[f"ship {n % 50}"] = ["decline"]
    sagas = [
        trip(
            inside("book"),
            outside(receiver, "pay"),
            outside(receiver, f"ship {n}"),
            name=f"trip {n}",
        )
        for n in range(50)
    ]
    async with eb.open_async(tmp_path / "store") as store:
        before = threading.active_count()
        async with eb.SagaCoordinator(
            store, sagas, concurrency=256, ends_a_checkpoint=100
        ) as coordinator:
            handles = [
                await coordinator.start(sagas[n % 50], Trip("mia"), id=f"saga-{n}")
                for n in range(SAGAS)
            ]
            outcomes = Counter()
            with anyio.fail_after(120):
                for handle in handles:
                    outcomes[(await handle.result()).outcome] += 1
            assert threading.active_count() <= before
            assert await coordinator.list() == []
        ends = Counter()
        async for recorded in store.read_all(
            types=["saga.completed", "saga.compensated"]
        ):
            ends[recorded.stream] += 1
    assert outcomes == {
        eb.SagaOutcome.COMPLETED: SAGAS * 4 // 5,
        eb.SagaOutcome.COMPENSATED: SAGAS // 5,
    }
    assert set(ends.values()) == {1}
    assert len(ends) == SAGAS
    assert len(receiver.standing()) == 2 * outcomes[eb.SagaOutcome.COMPLETED]
