"""Opening, closing, forgetting and forking a store.

The hazard: a store that two processes write at once, a close that loses what was being
written, and a handle that outlives its process and hangs.
"""

from __future__ import annotations

import copy
import gc
import os
import pickle
import threading
import warnings

import anyio
import anyio.lowlevel
import pytest

import eventbraid as eb
from tests.contract import programs
from tests.contract.asking import refusal

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def location(tmp_path):
    return tmp_path / "store.braid"


def test_a_store_keeps_its_events_when_it_is_opened_again(location):
    with eb.open(location) as store:
        store.append([("a", "x", b"1")])
    with eb.open(location) as store:
        store.append([("a", "x", b"2")], expect={"a": 1})
        assert [recorded.data for recorded in store.read_all()] == [b"1", b"2"]


def test_a_store_in_memory_is_fresh_each_time():
    with eb.open("memory:") as store:
        store.append([("a", "x", b"1")])
    with eb.open("memory:") as store, eb.open("memory:") as other:
        assert (store.head(), other.head()) == (0, 0)


def test_small_segments_hold_a_large_log(location):
    body = bytes(10_000)
    with eb.open(location, segment_size=65536, max_segment_size=262144) as store:
        for _ in range(200):
            store.append([("a", "x", body)])
        assert store.stats().segments > 3
    with eb.open(location, cache_size=0) as store:
        assert sum(len(recorded.data) for recorded in store.read_all()) == 2_000_000
        assert store.verify().events == 200


def test_closing_may_be_repeated_and_ends_everything(location):
    store = eb.open(location)
    store.append([("a", "x", b"")])
    half_read = store.read_all()
    subscription = store.subscribe()
    store.close()
    store.close()
    calls = [
        store.head,
        lambda: store.version("a"),
        lambda: store.append([("a", "x", b"")]),
        lambda: store.committed("k"),
        lambda: store.read_streams(["a"]),
        lambda: next(half_read),
        lambda: next(store.read_stream("a")),
        lambda: next(subscription),
        lambda: next(store.streams()),
        store.stats,
        store.verify,
    ]
    for call in calls:
        with pytest.raises(eb.errors.StoreClosed):
            call()


READS = {
    "read_stream": lambda store: store.read_stream("a"),
    "read_all": lambda store: store.read_all(),
    "streams": lambda store: store.streams(),
    "subscribe": lambda store: store.subscribe(),
}

WRONG_READS = {
    "no text": (TypeError, lambda store: store.read_stream(3)),
    "empty id": (
        eb.errors.InvalidStreamId,
        lambda store: store.read_stream("", limit=0),
    ),
    "surrogate": (eb.errors.InvalidStreamId, lambda store: store.read_stream("\ud800")),
    "negative": (
        eb.errors.InvalidArgument,
        lambda store: store.read_stream("a", after=-1),
    ),
    "flag": (TypeError, lambda store: store.read_stream("a", backward="no")),
    "flag of the log": (TypeError, lambda store: store.read_all(backward=1)),
    "prefix of the log": (TypeError, lambda store: store.read_all(prefix=3)),
    "prefix": (TypeError, lambda store: store.streams(0)),
    "prefix with a surrogate": (
        eb.errors.InvalidArgument,
        lambda s: s.streams("\ud800"),
    ),
    "flag of streams": (TypeError, lambda store: store.streams(system="no")),
    "types": (eb.errors.InvalidArgument, lambda store: store.subscribe(types="x")),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_closed_store_refuses_a_read_at_the_call(location, read):
    store = eb.open(location)
    other = store.as_async()
    store.close()
    for face in (store, other):
        with pytest.raises(eb.errors.StoreClosed):
            read(face)


@pytest.mark.parametrize(("error", "read"), WRONG_READS.values(), ids=WRONG_READS)
def test_wrong_arguments_of_a_read_are_refused_at_the_call(error, read):
    with eb.open("memory:") as store:
        for face in (store, store.as_async()):
            with pytest.raises(error):
                read(face)


def test_a_read_takes_a_flag_of_numpy():
    flag = type("bool_", (), {"__module__": "numpy", "__bool__": lambda self: True})
    with eb.open("memory:") as store:
        store.append([("a", "x", b"1"), ("a", "x", b"2")])
        newest = next(store.read_stream("a", backward=flag()))
        assert newest.data == b"2"


@pytest.mark.anyio
async def test_closing_ends_the_async_face_too(location, anyio_backend):
    store = await eb.open_async(location)
    await store.append([("a", "x", b"")])
    await store.close()
    await store.close()
    for call in (
        store.head(),
        store.append([("a", "x", b"")]),
        store.committed("k"),
        store.read_streams(["a"]),
        store.stats(),
        store.verify(),
    ):
        await refusal(call, eb.errors.StoreClosed)


@pytest.mark.anyio
async def test_a_close_that_is_cancelled_closes_all_the_same(location, anyio_backend):
    for number in range(5):
        store = await eb.open_async(location)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(store.append, [("a", "x", bytes(10_000))])
                await anyio.lowlevel.checkpoint()
                scope.cancel()
                await store.close()
        assert repr(store).endswith("closed>")
        # The next open finds no other session, and no torn commit.
        with eb.open(location) as again:
            assert again.verify().events == again.head() >= number


def test_both_faces_are_one_store(location):
    with eb.open(location) as store:
        other = store.as_async()
        anyio.run(lambda: other.append([("a", "x", b"1")]))
        assert store.head() == 1
        assert other.as_sync().head() == 1
    assert "closed" in repr(other)


def test_a_store_says_what_it_is(location):
    store = eb.open(location)
    assert repr(store) == f"<EventStore {str(location)!r}>"
    store.close()
    assert repr(store) == f"<EventStore {str(location)!r}, closed>"
    with eb.open("memory:") as memory:
        assert repr(memory.as_async()) == "<AsyncEventStore 'memory:'>"
        with memory.subscribe() as subscription:
            assert repr(subscription) == "<Subscription after 0>"
        assert repr(subscription) == "<Subscription after 0, closed>"


def test_a_forgotten_store_warns_and_is_closed(location):
    held = [eb.open(location)]
    with pytest.warns(ResourceWarning, match="never closed"):
        held.clear()
    eb.open(location).close()


def test_a_closed_store_does_not_warn(location):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = eb.open(location)
        store.close()
        del store
        gc.collect()


def test_what_a_store_gave_outlives_it(location):
    with eb.open(location) as store:
        store.append([eb.NewEvent("a", "x", b"1", metadata={"k": "v"})])
        [recorded] = store.read_all()
    assert (recorded.stream, recorded.data, dict(recorded.metadata)) == (
        "a",
        b"1",
        {"k": "v"},
    )


def test_an_opening_beside_an_exclusive_one_is_refused_and_names_the_holder(location):
    with eb.open(location, mode="exclusive"):
        with pytest.raises(eb.StoreBusy) as busy:
            eb.open(location)
        assert busy.value.path == str(location)
        program = """
            import sys
            try:
                eb.open(sys.argv[1])
            except eb.StoreBusy as busy:
                print(busy.holder)
        """
        other = programs.run(program, location)
    assert str(os.getpid()) in other.stdout, other.stderr


def test_opening_what_is_no_store_is_refused_and_changes_nothing(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "letter.txt").write_text("mine")
    for path in (file, folder):
        with pytest.raises(eb.errors.NotAStore) as refused:
            eb.open(path)
        assert refused.value.path == str(path)
    assert file.read_text() == (folder / "letter.txt").read_text() == "mine"
    assert sorted(p.name for p in folder.iterdir()) == ["letter.txt"]


def test_nothing_is_made_when_nothing_may_be_made(location, tmp_path):
    with pytest.raises(eb.errors.NotAStore):
        eb.open(location, create=False)
    assert list(tmp_path.iterdir()) == []
    eb.open(location).close()
    eb.open(location, create=False).close()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(eb.errors.StoreUnavailable) as refused:
            eb.open(tmp_path / "store.braid")
    finally:
        tmp_path.chmod(0o700)
    assert isinstance(refused.value, OSError)


def test_a_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(eb.errors.StoreUnavailable) as refused:
        eb.open(tmp_path / "missing" / "store.braid")
    assert refused.value.operation


def test_a_forked_child_opens_stores_of_its_own(location):
    program = """
        import os, sys, time
        with eb.open(sys.argv[1] + "-parent") as store:
            store.append([("a", "x", b"")])
            time.sleep(0.2)
            child = os.fork()
            if child == 0:
                with eb.open(sys.argv[1]) as fresh:
                    fresh.append([("a", "x", b"")])
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
    """
    done = programs.run(program, location, warnings="ignore")
    assert (done.returncode, done.stderr) == (0, "")
    with eb.open(location) as store:
        assert store.head() == 1


@pytest.mark.parametrize(
    "wait",
    [
        "threading.Thread(target=list, args=(store.subscribe(),), daemon=True).start()",
        "anyio_thread(store.as_async())",
    ],
)
def test_the_interpreter_ends_with_a_live_subscription(location, wait):
    program = f"""
        import asyncio, sys, threading, time
        store = eb.open(sys.argv[1])

        async def follow(face):
            async for _ in face.subscribe():
                pass

        def anyio_thread(face):
            run = lambda: asyncio.run(follow(face))
            threading.Thread(target=run, daemon=True).start()

        {wait}
        time.sleep(0.2)
        store.append([("a", "x", b"")])
    """
    done = programs.run(program, location, warnings="ignore")
    assert (done.returncode, done.stderr) == (0, "")
    with eb.open(location) as store:
        assert store.head() == 1


def test_many_threads_share_a_store(location):
    with eb.open(location) as store:

        def work(number):
            for _ in range(20):
                store.append([(f"s-{number}", "x", b"")])
                assert store.version(f"s-{number}") <= store.head()

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.verify().events == 160


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_a_store_and_what_holds_one_refuse_to_be_copied(copied, recwarn):
    with eb.open("memory:") as store:
        for holder in (store, eb.Lease(store, "importer")):
            with pytest.raises(TypeError, match="open it again by its path"):
                copied(holder)
        with pytest.raises(TypeError, match="create another one with the store"):
            copied(eb.Executor(store))
    gc.collect()
    assert not recwarn.list
