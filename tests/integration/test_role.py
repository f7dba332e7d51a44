"""A role is had by one at a time, and a late owner can't write.

The hazards: two who both believe that they have the role, one that nobody can take
after its owner died, and an owner that was stopped, replaced, and goes on.
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
from eventbraid.role import _standing

pytestmark = pytest.mark.anyio
STREAM = "$role-importer"


@pytest.fixture
def store():
    with eb.open("memory:") as opened:
        yield opened


@pytest.fixture
def stopped(monkeypatch):
    """Makes all who are there look as if they were stopped long ago."""

    def stop():
        monkeypatch.setattr(_standing, "silence_of", lambda *_: 10.0)

    return stop


def types(store):
    return [recorded.type for recorded in store.read_stream(STREAM)]


def test_the_token_is_the_version_of_the_roles_stream(store):
    for token in (1, 3, 5):
        with eb.Role(store, "importer") as role:
            assert role.token == token == store.version(STREAM)
            assert role.fence == {STREAM: token}
    assert types(store) == ["role.taken", "role.released"] * 3


def test_a_role_that_is_held_is_refused_with_who_has_it(store):
    with eb.Role(store, "importer"):
        with pytest.raises(eb.RoleBusy, match="importer.*process") as busy:
            eb.Role(store, "importer").__enter__()
        assert busy.value.since is not None
        assert busy.value.silence < 5
        with eb.Role(store, "another"):
            pass
    copy = pickle.loads(pickle.dumps(busy.value))
    assert (copy.role, copy.holder, str(copy)) == (
        "importer",
        busy.value.holder,
        str(busy.value),
    )


def test_an_owner_that_died_is_replaced_at_once(store):
    dead = eb.Role(store, "importer").__enter__()
    dead._leave()  # as the system does
    with eb.Role(store, "importer") as role:
        assert role.token == 2
    assert types(store) == ["role.taken", "role.taken", "role.released"]


def test_an_owner_that_was_stopped_and_goes_on_can_write_nothing(store, stopped):
    late = eb.Role(store, "importer").__enter__()
    stopped()
    with eb.Role(store, "importer") as role:
        assert role.append([("order-1", "x", b"")]).versions["order-1"] == 1
        with pytest.raises(eb.RoleLost) as lost:
            late.append([("order-1", "late", b"")])
        assert (lost.value.role, lost.value.token, lost.value.actual) == (
            "importer",
            1,
            2,
        )
        with pytest.raises(eb.VersionConflict):
            store.append([("order-1", "late", b"")], expect=late.fence)
        with pytest.raises(eb.RoleLost):
            late.__exit__(None, None, None)
    assert [recorded.type for recorded in store.read_stream("order-1")] == ["x"]


def test_a_conflict_in_the_block_is_told_as_the_loss_that_it_is(store, stopped):
    with pytest.raises(eb.RoleLost), eb.Role(store, "importer") as late:
        stopped()
        with eb.Role(store, "importer"):
            store.append([("order-1", "late", b"")], expect=late.fence)


def test_another_conflict_stays_one(store):
    with pytest.raises(eb.VersionConflict), eb.Role(store, "importer") as role:
        role.append([("order-1", "x", b"")], expect={"order-1": 7})
    # The block raised, and its role was let go all the same.
    assert types(store) == ["role.taken", "role.released"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("", {}), ("a\nb", {}), ("a", {"stale_after": timedelta(seconds=0.9)})],
)
def test_nonsense_is_refused(store, name, options):
    with pytest.raises(eb.InvalidArgument):
        eb.Role(store, name, **options)


def test_a_role_is_entered_once(store):
    with eb.Role(store, "importer") as role, pytest.raises(eb.InvalidArgument):
        role.__enter__()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_no_part_in_its_parents_role(tmp_path):
    with (
        eb.open(tmp_path / "shop.braid") as store,
        eb.Role(store, "importer") as role,
    ):
        child = os.fork()
        if child == 0:
            try:
                role.append([("order-1", "child", b"")])
            except eb.InvalidArgument:
                os._exit(7)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        role.append([("order-1", "parent", b"")])
        assert store.version("order-1") == 1


async def test_one_waits_for_the_other(store):
    order = []
    face = store.as_async()

    async def work(name):
        async with eb.AsyncRole(face, "importer", wait=None) as role:
            order.append(f"{name} begins")
            await role.append([("order-1", name, b"")])
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
    async with eb.AsyncRole(face, "importer"):
        with anyio.fail_after(5), pytest.raises(eb.RoleBusy):
            async with eb.AsyncRole(face, "importer", wait=timedelta(milliseconds=50)):
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
        roles: dict[int, eb.Role] = {}
        last = None
        for step, who in steps:
            role = roles.get(who)
            if step == "take" and role is None:
                fresh = eb.Role(store, "importer")
                try:
                    roles[who] = fresh.__enter__()
                    last = who
                except eb.RoleBusy:
                    assert last in roles
            elif step == "release" and role is not None:
                role.__exit__(None, None, None)
                del roles[who]
            elif step == "die" and role is not None:
                role._leave()
                del roles[who]
            elif step == "write" and role is not None:
                assert who == last
                role.append([("order-1", str(who), b"")])
        assert len(roles) <= 1
        for role in roles.values():
            role.__exit__(None, None, None)
