"""Opens of a store that is already open: shared, exclusive or read-only.

The hazards: two processes that both have exclusive access, one that waits for ever for a
stopped one, and a reader that locks writers out.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time

import pytest

import eventbraid as eb
from tests.contract import programs
from tests.peers import peer, refused, stopped_between_writes

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def location(tmp_path):
    return tmp_path / "store.braid"


def opened(location, **options):
    """Open and close it; answer the error, if that is what comes of it."""
    try:
        eb.open(location, **options).close()
    except eb.EventbraidError as error:
        return error
    return None


def opened_async(location, **options):
    async def main():
        async with eb.open_async(location, **options):
            pass

    try:
        asyncio.run(main())
    except eb.EventbraidError as error:
        return error
    return None


# --- alone or together


@pytest.mark.parametrize("face", [opened, opened_async])
@pytest.mark.parametrize(
    ("holder", "newcomer"),
    [("exclusive", "shared"), ("shared", "exclusive"), ("exclusive", "exclusive")],
)
def test_who_wants_a_store_alone_and_who_has_it_exclude_each_other(
    location, holder, newcomer, face
):
    with peer(location, mode=holder) as other:
        other.append("a", b"1")
        busy = face(location, mode=newcomer)
        assert isinstance(busy, eb.StoreBusy)
        assert (busy.path, str(other.pid) in busy.holder) == (str(location), True)
        # The holder has noticed nothing.
        assert other.append("a", b"2") == 2
        other.close()
    assert face(location, mode=newcomer) is None


@pytest.mark.parametrize("face", [opened, opened_async])
@pytest.mark.parametrize(
    ("holder", "newcomer"),
    [("exclusive", "shared"), ("shared", "exclusive"), ("exclusive", "exclusive")],
)
def test_an_open_session_is_not_waited_for_where_one_of_the_two_is_exclusive(
    location, holder, newcomer, face
):
    with peer(location, mode=holder), eb.open(location.with_name("own"), mode=holder):
        for store in (location, location.with_name("own")):
            began = time.monotonic()
            busy = face(store, mode=newcomer, lock_timeout=600)
            assert isinstance(busy, eb.StoreBusy)
            assert time.monotonic() - began < 60


def test_no_process_is_let_in_beside_an_exclusive_one_of_this_process(location):
    with eb.open(location, mode="exclusive") as store:
        for mode in ("shared", "exclusive"):
            for read_only in (False, True):
                error, text = refused(location, mode=mode, read_only=read_only)
                assert error == "StoreBusy"
                assert f"process {os.getpid()}" in text
        assert store.append([("a", "x", b"")]).last_position == 1


def test_a_shared_store_may_be_had_alone_when_all_have_left(location):
    with peer(location) as first, peer(location) as second:
        for leaving in (first, second):
            assert isinstance(opened(location, mode="exclusive"), eb.StoreBusy)
            leaving.append("a")
            leaving.close()
    with eb.open(location, mode="exclusive") as store:
        assert store.head() == 2


def test_an_exclusive_store_may_be_shared_later(location):
    with eb.open(location, mode="exclusive") as store:
        store.append([("a", "x", b"1")])
    with eb.open(location) as store, peer(location) as other:
        assert other.append("a", b"2") == 2
        assert store.head() == 2


# --- only to look


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
def test_who_only_looks_needs_no_more_than_the_store(location, mode):
    with eb.open(location) as store:
        store.append([("a", "x", b"1")])
    with eb.open(location, read_only=True, mode=mode) as view:
        assert view.head() == 1
        with pytest.raises(eb.errors.StoreUnavailable, match="read_only"):
            view.append([("a", "x", b"2")])


def test_who_only_looks_sees_what_writers_append(location):
    with peer(location) as writer:
        writer.append("a", b"1")
        with eb.open(location, read_only=True) as view:
            assert [recorded.data for recorded in view.read_all()] == [b"1"]
            with view.subscribe() as subscription:
                for number in range(1, 30):
                    assert next(subscription).position == number
                    writer.tell("store.append([('a', 'x', b'')]).replayed")
                    writer.answer()
            assert view.version("a") == writer.ask("store.head()") == 30
            assert view.verify().events == 30
            with pytest.raises(eb.errors.StoreUnavailable, match="read_only"):
                view.append([("a", "x", b"")])
            writer.close()
            # Without a writer there are no further events, and the others stay readable.
            assert view.head() == 30
        assert opened(location, mode="exclusive") is None


def test_who_only_looks_keeps_no_writer_out(location):
    with eb.open(location) as store:
        store.append([("a", "x", b"1")])
    with peer(location, read_only=True) as view, eb.open(location) as store:
        assert view.ask("store.head()") == 1
        assert store.append([("a", "x", b"2")]).last_position == 2
        # It was there before the writer, so it shows what it found.
        assert view.ask("[r.data for r in store.read_all()]") == [b"1"]
    with peer(location, read_only=True), peer(location, read_only=True, mode="shared"):
        assert opened(location) is None


def test_who_only_looks_makes_nothing(location):
    error, _ = refused(location, read_only=True)
    assert error == "NotAStore"
    assert not location.exists()


# --- how long to wait


@pytest.mark.parametrize("face", [opened, opened_async])
def test_a_stopped_holder_is_waited_for_so_long_and_no_longer(location, face):
    with peer(location) as holder:
        holder.append("a", b"1")
        with holder.stopped():
            began = time.monotonic()
            busy = face(location, lock_timeout=0.5)
            seconds = time.monotonic() - began
            assert isinstance(busy, eb.StoreBusy)
            assert str(holder.pid) in busy.holder
            assert 0.5 <= seconds < 10
        # It goes on as if nothing had been, and lets others in.
        assert face(location) is None
        assert holder.append("a", b"2") == 2


def test_who_waits_gets_in_once_the_holder_goes_on(location):
    with peer(location) as holder, peer(location.with_name("other")) as other:
        holder.append("a", b"1")
        with holder.stopped():
            other.tell(
                f"eb.open({str(location)!r}, lock_timeout=60).__enter__().close()"
            )
        assert other.answer() is None


def test_a_stopped_holder_that_has_company_keeps_nobody_out(location):
    with eb.open(location) as store, peer(location) as other:
        other.append("a")
        with stopped_between_writes(other.pid, location):
            assert opened(location, lock_timeout=60) is None
            assert store.append([("a", "x", b"")]).last_position == 2
        assert other.append("a") == 3


def test_no_time_at_all_is_enough_where_nobody_is(location):
    with eb.open(location, lock_timeout=0) as store:
        assert store.append([("a", "x", b"")]).last_position == 1


def test_ctrl_c_ends_the_wait_for_a_holder(location):
    program = """
        import os, signal, sys, threading
        try:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            eb.open(sys.argv[1], lock_timeout=600)
        except KeyboardInterrupt:
            print("interrupted")
    """
    with peer(location) as holder:
        holder.append("a", b"1")
        with holder.stopped():
            done = programs.run(program, location, seconds=60)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@contextlib.contextmanager
def kept(location, lock):
    """Keep a lock of the store, as a process does that was stopped while it had it."""
    with (location / "locks" / lock).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def appended_async(store, *events, **options):
    return asyncio.run(store.as_async().append(*events, **options))


@pytest.mark.parametrize("append", [eb.EventStore.append, appended_async])
def test_an_append_waits_so_long_for_who_keeps_the_log_and_writes_nothing(
    location, append
):
    with eb.open(location, lock_timeout=0.3) as store, peer(location) as other:
        other.append("a", b"1")
        with kept(location, "write.lock"):
            began = time.monotonic()
            with pytest.raises(eb.StoreBusy) as busy:
                append(store, [("a", "x", b"2")])
            assert 0.3 <= time.monotonic() - began < 10
            assert busy.value.path == str(location)
            # A read waits for no lock.
            assert [recorded.data for recorded in store.read_all()] == [b"1"]
        assert append(store, [("a", "x", b"3")]).last_position == 2
        assert other.ask("[r.data for r in store.read_all()]") == [b"1", b"3"]


@pytest.mark.parametrize("append", [eb.EventStore.append, appended_async])
def test_an_append_that_waits_too_long_for_the_disk_may_have_been_done(
    location, append
):
    event = eb.NewEvent("a", "x", b"2")
    with eb.open(location, lock_timeout=0.3) as store, peer(location) as other:
        other.append("a", b"1")
        with kept(location, "sync.lock"):
            with pytest.raises(eb.OutcomeUnknown) as unknown:
                append(store, [event], idempotency_key="k")
            assert unknown.value.idempotency_key == "k"
            # Not shown before it is durable.
            assert store.head() == 1
        assert append(store, [event], idempotency_key="k").last_position == 2
        assert other.ask("[r.data for r in store.read_all()]") == [b"1", b"2"]


# --- the files by which sessions share a store


@pytest.fixture
def detached(location):
    """Two sessions of a store of one event; the tests damage the files that they share."""
    store = eb.open(location)
    with peer(location) as other:
        other.append("a", b"1")
        assert store.head() == 1
        yield store, other
    # The store is closed nevertheless, and the close raises the same error again.
    with pytest.raises(eb.errors.StoreDetached):
        store.close()
    with pytest.raises(eb.errors.StoreClosed):
        store.head()
    with eb.open(location) as store:
        assert store.verify().events == 1
        assert store.append([("a", "x", b"4")]).last_position == 2


def test_a_deleted_page_stops_writing_and_is_named(location, detached):
    store, other = detached
    page = location / "coord.shm"
    page.unlink()
    with pytest.raises(eb.errors.StoreDetached) as refused:
        store.append([("a", "x", b"2")])
    assert refused.value.path == str(page)
    assert "deleted" in refused.value.reason
    error, text = other.ask("store.append([('a', 'x', b'3')])")
    assert error == "StoreDetached"
    assert "open it again" in text
    # What was seen before can still be read.
    assert [recorded.data for recorded in store.read_all()] == [b"1"]


def test_a_replaced_lock_is_found_before_anything_is_written(location, detached):
    store, _ = detached
    lock = location / "locks" / "write.lock"
    lock.unlink()
    lock.touch()
    with pytest.raises(eb.errors.StoreDetached) as refused:
        store.append([("a", "x", b"2")])
    assert refused.value.path == str(lock)


def test_the_files_of_a_session_are_no_part_of_the_store(location):
    """A backup may leave them out: they are made anew."""
    with eb.open(location) as store:
        store.append([("a", "x", b"1")])
    (location / "coord.shm").unlink(missing_ok=True)
    for lock in (location / "locks").iterdir():
        lock.unlink()
    (location / "locks").rmdir()
    with eb.open(location) as store, peer(location) as other:
        assert other.append("a", b"2") == store.head() == 2
