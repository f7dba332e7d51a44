"""What others write stops no coordinator: one bad record costs at most its own saga.

Anybody who shares a store can write to any stream but the library's, and can take any
lease but the library's. The hazards: a record that can't be decoded where a coordinator
follows the log, a name that it takes for one of its own, and a start that it takes for a
saga's.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager

import anyio
import pytest

import eventbraid as eb
from eventbraid.saga.machine._events import (
    COORDINATORS_STREAM,
    CoordinatorsChanged,
    SagaCheckpoint,
    SagaStarted,
)
from eventbraid.store._system import system_event
from tests.saga_kit import SLEEPY, Receiver, Trip, inside, outside, records, trip

pytestmark = pytest.mark.anyio
SOON = 60
DEEP = b"[" * 5_000 + b"]" * 5_000
NOTICE = b'{"saga_id":"a","saga":"s","step":"a","reason":"r"}'
MANY_DIGITS = {"v": "9" * 5_000}
SAGA = trip(inside("book"), inside("pack"))
STARTED = eb.encode_event(
    SagaStarted("trip", 1, "0123", (), SAGA.state_codec.encode(Trip("mia")))
)[1]

RECORDS = {
    "a notice of a schema version with 5,000 digits": eb.NewEvent(
        "saga-attention", "saga.needs_attention", NOTICE, metadata=MANY_DIGITS
    ),
    "a notice with deep nesting": eb.NewEvent(
        "saga-attention", "saga.needs_attention", NOTICE[:-1] + b',"x":' + DEEP + b"}"
    ),
    "a notice that is a list": eb.NewEvent(
        "saga-attention", "saga.needs_attention", b"[]"
    ),
    "a notice of bytes": eb.NewEvent("saga-attention", "saga.needs_attention", b"\xff"),
    "another event among the notices": eb.NewEvent("saga-attention", "x", b"\xff"),
    "a start with deep input": eb.NewEvent(
        "saga-junk",
        "saga.started",
        b'{"saga":"trip","version":1,"graph_hash":"x","graph":[],"input":'
        + DEEP
        + b"}",
    ),
    "a start of a schema version with 5,000 digits": eb.NewEvent(
        "saga-junk", "saga.started", STARTED, metadata=MANY_DIGITS
    ),
    "a start of bytes": eb.NewEvent("saga-junk", "saga.started", b"\xff"),
    "a start of deep nesting alone": eb.NewEvent("saga-junk", "saga.started", DEEP),
    "a start with a huge version": eb.NewEvent(
        "saga-junk",
        "saga.started",
        b'{"saga":"trip","version":' + b"9" * 400 + b',"graph_hash":"x"}',
    ),
    "a start in a stream of an odd name": eb.NewEvent(
        "saga junk/\N{SNOWMAN}", "saga.started", b"\xff"
    ),
    "an end that never began": eb.NewEvent("saga-junk", "saga.completed", b"\xff"),
    "a decision about nothing": eb.NewEvent("junk", "saga.retried_by_hand", b"\xff"),
    "a compensation of nothing": eb.NewEvent(
        "junk", "saga.compensation_started", b"\xff"
    ),
    "a lease in another stream": eb.NewEvent("junk", "lease.acquired", b"\xff"),
    "members in another stream": eb.NewEvent("junk", "saga.coordinators", b"\xff"),
    "a checkpoint in another stream": eb.NewEvent("junk", "saga.checkpoint", b"\xff"),
}

INTERNAL = {
    "a checkpoint of bytes": eb.NewEvent(
        "$saga-checkpoint", "saga.checkpoint", b"\xff"
    ),
    "a checkpoint of another type": eb.NewEvent("$saga-checkpoint", "x", b"{}"),
    "a checkpoint ahead of the log": eb.new_event(
        "$saga-checkpoint", SagaCheckpoint(10**9, ())
    ),
    "a checkpoint with an index too high": eb.new_event(
        "$saga-checkpoint", SagaCheckpoint(0, ("saga-1",), (), (7,))
    ),
    "members of bytes": eb.NewEvent(COORDINATORS_STREAM, "saga.coordinators", b"\xff"),
    "members of another type": eb.NewEvent(COORDINATORS_STREAM, "x", b"{}"),
    "members with an index too high": eb.new_event(
        COORDINATORS_STREAM, CoordinatorsChanged((("a.1", 7),), ())
    ),
    "a lease of bytes": eb.NewEvent("$lease-$saga-shard-03", "lease.acquired", b"\xff"),
    "a lease of a shard that isn't": eb.NewEvent(
        "$lease-$saga-shard-77",
        "lease.acquired",
        b"\xff",
    ),
}


@pytest.fixture
async def store():
    async with eb.open_async("memory:") as opened:
        yield opened


@asynccontextmanager
async def coordinating(store):
    """A coordinator that works when the block begins, and when it ends."""
    async with eb.SagaCoordinator(store, [SAGA]) as coordinator:
        await completes(coordinator, await store.head())
        yield coordinator
        for number in range(20):
            await completes(coordinator, f"{await store.head()}-{number}")


async def completes(coordinator, name: object) -> None:
    handle = await coordinator.start(SAGA, Trip("mia"), id=f"saga-{name}")
    with anyio.fail_after(SOON):
        assert (await handle.result()).outcome is eb.SagaOutcome.COMPLETED


@pytest.mark.parametrize("what", RECORDS)
async def test_no_record_of_others_stops_a_coordinator(store, what):
    async with coordinating(store):
        await store.append([RECORDS[what]])
    # Nor one that comes later.
    async with coordinating(store) as later:
        listed = [summary.id for summary in await later.list()]
        assert set(listed) <= {RECORDS[what].stream}


@pytest.mark.parametrize("what", INTERNAL)
async def test_no_damaged_record_of_the_library_stops_the_next_coordinator(
    store, what, caplog
):
    async with coordinating(store):
        pass
    await store.append([system_event(INTERNAL[what])])
    with caplog.at_level(logging.WARNING, "eventbraid"):
        async with coordinating(store) as later:
            assert await later.list() == []


async def test_unfinished_sagas_are_found_behind_a_damaged_checkpoint(store):
    receiver = Receiver()
    receiver.plan = {"pay": ["drop"]}
    saga = trip(outside(receiver, "pay", retry=SLEEPY))
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        await coordinator.start(saga, Trip("mia"), id="saga-1")
        with anyio.fail_after(SOON):
            while "step_unknown" not in await records(store, "saga-1"):  # noqa: ASYNC110
                await anyio.sleep(0.005)
    await store.append(
        [system_event(eb.NewEvent("$saga-checkpoint", "saga.checkpoint", b"\xff"))]
    )
    async with eb.SagaCoordinator(store, [saga]) as coordinator:
        assert [summary.id for summary in await coordinator.list()] == ["saga-1"]


async def test_members_that_were_lost_from_the_log_join_again(store):
    async with coordinating(store) as coordinator:
        junk = system_event(
            eb.NewEvent(COORDINATORS_STREAM, "saga.coordinators", b"\xff")
        )
        await store.append([junk])
        with anyio.fail_after(SOON):
            while await store.version(COORDINATORS_STREAM) < 3:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            listed = coordinator._parts.state.live._list
            while coordinator._parts.state.live.own_id not in listed.capabilities:  # noqa: ASYNC110
                await anyio.sleep(0.005)


@pytest.mark.parametrize(
    "name", ["saga-shard-eu", "saga-shard-00", "saga-shard-", "saga-coordinator-00"]
)
async def test_a_lease_of_any_name_harms_no_coordinator(store, name):
    async with coordinating(store), eb.AsyncLease(store, name):
        pass
    async with eb.AsyncLease(store, name), coordinating(store):
        pass


@pytest.mark.parametrize("name", ["$saga-shard-00", "$", "$mine"])
async def test_names_of_the_librarys_own_leases_are_refused(store, name):
    with pytest.raises(eb.errors.InvalidArgument, match="reserved for the library"):
        eb.AsyncLease(store, name)
    with pytest.raises(eb.errors.InvalidArgument, match="reserved for the library"):
        eb.Lease(store.as_sync(), name)


async def test_a_record_that_breaks_a_sagas_stream_costs_that_saga_alone(store):
    receiver = Receiver()
    receiver.plan = {"pay": ["drop"]}
    sleeping = trip(outside(receiver, "pay", retry=SLEEPY), name="sleeping")
    async with eb.SagaCoordinator(store, [SAGA, sleeping]) as coordinator:
        handle = await coordinator.start(sleeping, Trip("mia"), id="saga-1")
        with anyio.fail_after(SOON):
            while "step_unknown" not in await records(store, "saga-1"):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        await store.append([("saga-1", "saga.compensation_started", DEEP)])
        with anyio.fail_after(SOON), pytest.raises(eb.errors.SagaBlocked):
            await handle.result()
        await completes(coordinator, "healthy")
        assert [summary.id for summary in await coordinator.blocked()] == ["saga-1"]
    async with eb.SagaCoordinator(store, [SAGA, sleeping]) as coordinator:
        assert [summary.id for summary in await coordinator.blocked()] == ["saga-1"]
        await completes(coordinator, "healthy, too")


async def test_a_state_that_could_not_be_read_back_is_refused_at_the_start(store):
    state: list[object] = []
    for _ in range(982):
        state = [state]
    nested = eb.Saga("nested", list, steps=[inside("book")])
    async with eb.SagaCoordinator(store, [nested]) as coordinator:
        with pytest.raises(eb.EventbraidError):
            await coordinator.start(nested, state, id="saga-1")
    async with eb.SagaCoordinator(store, [nested]) as coordinator:
        assert await coordinator.list() == []
