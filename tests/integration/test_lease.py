"""A lease has at most one holder, and a late holder can't write.

The hazards: two holders at the same time, a lease that can't be acquired after its holder
died, and a holder that was stopped, was replaced, and continues.
"""

from __future__ import annotations

import os
import pickle
from datetime import timedelta

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.lease import _liveness

pytestmark = pytest.mark.anyio
STREAM = "$lease-importer"


@pytest.fixture
def store():
    with eb.open("memory:") as opened:
        yield opened


@pytest.fixture
def stopped(monkeypatch):
    """Makes all who are there look as if they were stopped long ago."""

    def stop():
        monkeypatch.setattr(_liveness, "heartbeat_age", lambda *_: 10.0)

    return stop


def types(store):
    return [recorded.type for recorded in store.read_stream(STREAM)]


def test_the_token_is_the_version_of_the_leases_stream(store):
    for token in (1, 3, 5):
        with eb.Lease(store, "importer") as lease:
            assert lease.token == token == store.version(STREAM)
            assert lease.fence == {STREAM: token}
    assert types(store) == ["lease.acquired", "lease.released"] * 3


def test_a_held_lease_is_refused_and_the_error_names_its_holder(store):
    with eb.Lease(store, "importer"):
        with pytest.raises(eb.LeaseHeld, match="importer.*process") as busy:
            eb.Lease(store, "importer").__enter__()
        assert busy.value.since is not None
        assert busy.value.heartbeat_age < 5
        with eb.Lease(store, "another"):
            pass
    copy = pickle.loads(pickle.dumps(busy.value))
    assert (copy.lease, copy.holder, str(copy)) == (
        "importer",
        busy.value.holder,
        str(busy.value),
    )


def test_the_lease_of_a_dead_holder_is_free_at_once(store):
    dead = eb.Lease(store, "importer").__enter__()
    dead._holding.end_with_process()  # as the system does
    with eb.Lease(store, "importer") as lease:
        assert lease.token == 2
    assert types(store) == ["lease.acquired", "lease.acquired", "lease.released"]


def test_a_stopped_holder_that_continues_can_write_nothing(store, stopped):
    late = eb.Lease(store, "importer").__enter__()
    stopped()
    with eb.Lease(store, "importer") as lease:
        assert lease.append([("order-1", "x", b"")]).versions["order-1"] == 1
        with pytest.raises(eb.errors.LeaseLost) as lost:
            late.append([("order-1", "late", b"")])
        assert (lost.value.lease, lost.value.token, lost.value.actual) == (
            "importer",
            1,
            2,
        )
        with pytest.raises(eb.VersionConflict):
            store.append([("order-1", "late", b"")], expect=late.fence)
        with pytest.raises(eb.errors.LeaseLost):
            late.__exit__(None, None, None)
    assert [recorded.type for recorded in store.read_stream("order-1")] == ["x"]


def test_a_conflict_caused_by_the_loss_is_raised_as_the_loss(store, stopped):
    with pytest.raises(eb.errors.LeaseLost), eb.Lease(store, "importer") as late:
        stopped()
        with eb.Lease(store, "importer"):
            store.append([("order-1", "late", b"")], expect=late.fence)


def test_a_conflict_of_another_stream_is_raised_unchanged(store):
    with pytest.raises(eb.VersionConflict), eb.Lease(store, "importer") as lease:
        lease.append([("order-1", "x", b"")], expect={"order-1": 7})
    # The lease is released although the block raised.
    assert types(store) == ["lease.acquired", "lease.released"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("", {}), ("a\nb", {}), ("a", {"stale_after": timedelta(seconds=0.9)})],
)
def test_invalid_arguments_are_refused(store, name, options):
    with pytest.raises(eb.errors.InvalidArgument):
        eb.Lease(store, name, **options)


def test_a_lease_object_is_entered_only_once(store):
    with eb.Lease(store, "importer") as lease, pytest.raises(eb.errors.InvalidArgument):
        lease.__enter__()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_hold_its_parents_lease(tmp_path):
    with (
        eb.open(tmp_path / "shop.braid") as store,
        eb.Lease(store, "importer") as lease,
    ):
        child = os.fork()
        if child == 0:
            try:
                lease.append([("order-1", "child", b"")])
            except eb.errors.InvalidArgument:
                os._exit(7)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        lease.append([("order-1", "parent", b"")])
        assert store.version("order-1") == 1


async def test_a_waiting_task_acquires_the_lease_after_its_release(store):
    order = []
    face = store.as_async()

    async def work(name):
        async with eb.AsyncLease(face, "importer", wait=None) as lease:
            order.append(f"{name} begins")
            await lease.append([("order-1", name, b"")])
            await anyio.sleep(0.01)
            order.append(f"{name} ends")

    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(work, name)
    assert all(
        first[0] == second[0]
        for first, second in zip(order[::2], order[1::2], strict=True)
    )
    assert len(order) == 6


async def test_waiting_is_bounded(store):
    face = store.as_async()
    async with eb.AsyncLease(face, "importer"):
        with anyio.fail_after(60), pytest.raises(eb.LeaseHeld):
            async with eb.AsyncLease(face, "importer", wait=timedelta(milliseconds=50)):
                pass


STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "release", "die", "write"]), st.integers(0, 2)),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens_one_at_a_time_can_write(steps):
    """Three who take, release, die and write: only who took it last ever writes."""
    with eb.open("memory:") as store:
        leases: dict[int, eb.Lease] = {}
        last = None
        for step, who in steps:
            lease = leases.get(who)
            if step == "take" and lease is None:
                fresh = eb.Lease(store, "importer")
                try:
                    leases[who] = fresh.__enter__()
                    last = who
                except eb.LeaseHeld:
                    assert last in leases
            elif step == "release" and lease is not None:
                lease.__exit__(None, None, None)
                del leases[who]
            elif step == "die" and lease is not None:
                lease._holding.end_with_process()
                del leases[who]
            elif step == "write" and lease is not None:
                assert who == last
                lease.append([("order-1", str(who), b"")])
        assert len(leases) <= 1
        for lease in leases.values():
            lease.__exit__(None, None, None)
