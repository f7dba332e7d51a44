"""A process runs out of descriptors or threads: it gets errors, and no store stops.

Only a failed sync stops a store. What one process can't open concerns that process alone,
and it goes on when it has descriptors again.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import tempfile
import textwrap
from pathlib import Path

import pytest

import eventbraid as eb
from tests.contract import programs
from tests.peers import peer

pytestmark = pytest.mark.timeout(120)

SMALL = {"segment_size": 65536, "max_segment_size": 65536, "cache_size": 0}
BODY = b"y" * 20_000


def descriptors():
    """Return the number of open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def descriptors_left(count):
    """Limit the descriptors that the process can still open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 64, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for descriptor in taken[:count]:
            os.close(descriptor)
        del taken[:count]
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


@pytest.fixture
def large(tmp_path):
    """A store with far more segments than a process should have open files."""
    path = tmp_path / "large.braid"
    with eb.open(path, **SMALL) as store:
        for i in range(100):
            store.append([(f"s-{i}", "x", BODY * 4)])
        assert store.stats().segments >= 100
    return path


# --- the descriptors of an open store ------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"mode": "exclusive"}, {"read_only": True}])
def test_a_store_of_any_size_has_a_bounded_number_of_files_open(large, options):
    before = descriptors()
    with eb.open(large, **SMALL, **options) as store:
        assert descriptors() - before <= 128
        assert len(list(store.read_all())) == 100
        assert len(list(store.read_all(backward=True))) == 100
        store.verify()
        assert descriptors() - before <= 128
        if not options.get("read_only"):
            for _ in range(60):
                store.append([("more", "x", BODY)])
            assert store.verify().events == 160
        assert descriptors() - before <= 128


def test_a_process_that_follows_another_has_a_bounded_number_of_files_open(tmp_path):
    path = tmp_path / "shop.braid"
    with peer(path, **SMALL) as other, eb.open(path, **SMALL) as store:
        before = descriptors()
        for i in range(150):
            other.ask(f"store.append([('s-{i}', 'x', {BODY!r} * 4)]).last_position")
        assert len(list(store.read_all())) == 150
        store.append([("own", "x", b"")])
        assert descriptors() - before <= 128


def test_a_closed_store_that_is_still_referenced_has_no_open_files(large):
    gc.collect()
    before = descriptors()
    store = eb.open(large, **SMALL)
    subscription = store.subscribe()
    next(subscription)
    names = store.streams()
    next(iter(names))
    store.close()
    gc.collect()
    assert descriptors() <= before
    with pytest.raises(eb.errors.StoreClosed):
        store.head()
    store.close()


def test_a_closed_store_that_is_still_referenced_keeps_no_memory(tmp_path):
    """Cache and index are freed: a program may close one store and open another."""
    program = """
        import ctypes, sys

        def resident():
            ctypes.CDLL(None).malloc_trim(0)
            with open("/proc/self/status") as status:
                kib = next(int(x.split()[1]) for x in status if "VmRSS" in x)
            return kib / 1024

        before = resident()
        store = eb.open(sys.argv[1])
        for number in range(20):
            names = (f"s-{number}-{n}" for n in range(5_000))
            store.append([(name, "x", bytes(300)) for name in names])
        names = None
        assert sum(1 for _ in store.read_all()) == 100_000
        used = resident() - before
        assert used > 30, used
        store.close()
        kept = resident() - before
        assert kept < used / 2, (used, kept)
        try:
            store.head()
        except eb.errors.StoreClosed:
            pass
    """
    done = programs.run(program, tmp_path / "shop.braid", seconds=200)
    assert (done.returncode, done.stderr) == (0, "")


# --- no descriptors left -------------------------------------------------------------


@pytest.mark.parametrize("left", range(6))
def test_a_process_without_descriptors_does_not_poison_the_store(tmp_path, left):
    path = tmp_path / "shop.braid"
    with peer(path, **SMALL) as other, eb.open(path, **SMALL) as store:
        other.append("s")
        done = 0
        with descriptors_left(left):
            for _ in range(40):
                try:
                    store.append([("own", "x", BODY)])
                    done += 1
                except eb.errors.StoreUnavailable:
                    pass
        assert other.append("s")
        assert store.append([("own", "x", b"")])
        assert not store.stats().poisoned
        assert store.version("own") >= done + 1
        assert store.verify().events == store.head()


def test_a_process_without_descriptors_still_reads_a_large_store(large):
    with eb.open(large, **SMALL) as store, descriptors_left(0):
        assert len(list(store.read_all())) == 100
        assert store.version("s-1") == 1


def test_a_process_without_descriptors_finds_no_damage_in_a_large_store(large):
    """Files are verified one after the other; a directory cannot always be listed."""
    for options in ({}, {"mode": "exclusive"}, {"read_only": True}):
        with eb.open(large, **SMALL, **options) as store:
            events = store.head()
            for left in (0, 1, 2):
                with descriptors_left(left):
                    with contextlib.suppress(eb.errors.StoreUnavailable):
                        assert store.verify().events == events
                    with contextlib.suppress(eb.errors.StoreUnavailable):
                        store.verify(quick=True)
                assert not store.stats().poisoned
                assert store.verify().events == events
            if not options.get("read_only"):
                assert store.append([("s", "x", BODY)])


def test_an_open_without_descriptors_is_refused_and_affects_no_other_process(tmp_path):
    path = tmp_path / "shop.braid"
    with eb.open(path, **SMALL) as store:
        store.append([("s", "x", b"")])
        refused = 0
        for left in range(14):
            with descriptors_left(left):
                try:
                    eb.open(path, **SMALL).close()
                except eb.errors.StoreUnavailable:
                    refused += 1
        assert refused
        store.append([("s", "x", b"")])
        assert store.verify().events == 2
        with eb.open(path, **SMALL) as other:
            assert other.head() == 2


def test_the_error_of_a_process_without_descriptors_has_the_errno(tmp_path):
    with descriptors_left(0), pytest.raises(eb.errors.StoreUnavailable) as refused:
        eb.open(tmp_path, **SMALL)
    assert refused.value.errno == errno.EMFILE
    assert isinstance(refused.value, OSError)


# --- no threads left -----------------------------------------------------------------

# The limit does not apply to root, so the program becomes another user.
WITHOUT_THREADS = """
import asyncio, os, resource, sys, threading

async def imported():
    async with eb.open_async("memory:") as store:
        await store.append([("s", "x", b"")])
        await store.verify()

# What is imported when it is first needed: the other user may not be allowed to read it.
asyncio.run(imported())
if os.getuid() == 0:
    os.setgid(54321)
    os.setuid(54321)
_, most = resource.getrlimit(resource.RLIMIT_NPROC)

def limit(count):
    resource.setrlimit(resource.RLIMIT_NPROC, (count, most))

def refused():
    limit(0)
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        return
    sys.exit(77)

location = sys.argv[1]
"""


def without_threads(program):
    """Run a program as a user whose threads can be limited."""
    with tempfile.TemporaryDirectory() as base:
        location = Path(base) / "store"
        location.mkdir()
        if os.getuid() == 0:
            Path(base).chmod(0o755)
            os.chown(location, 54321, 54321)
        text = WITHOUT_THREADS + textwrap.dedent(program)
        done = programs.run(text, location / "shop.braid", seconds=200)
        if done.returncode == 77:
            pytest.skip("this system starts threads beyond the limit")
        assert (done.returncode, done.stderr) == (0, "")


def test_a_process_that_gets_no_threads_uses_and_closes_a_store():
    without_threads(
        """
        refused()
        store = eb.open(location)
        for i in range(300):
            store.append([("s", "x", b"y" * 10_000)])
        assert store.version("s") == store.verify().events == 300
        assert len(list(store.read_all())) == 300
        store.close()
        with eb.open(location) as store:
            assert store.head() == 300
        """
    )


def test_a_store_opened_before_is_used_and_closed_when_threads_run_out():
    without_threads(
        """
        store = eb.open(location)
        refused()
        with store.subscribe() as subscription:
            store.append([("s", "x", b"1")])
            assert next(subscription).data == b"1"
        limit(most)
        for i in range(20):
            store.append([("s", "x", b"2")])
        assert store.verify().events == 21
        refused()
        store.close()
        """
    )


def test_an_event_loop_closes_its_store_when_threads_run_out():
    without_threads(
        """
        async def main():
            store = await eb.open_async(location)
            await store.append([("s", "x", b"1")])
            refused()
            await store.append([("s", "x", b"2")])
            assert [r.data async for r in store.read_stream("s")] == [b"1", b"2"]
            assert (await store.verify()).events == 2
            try:
                await eb.open_async(location)
            except eb.errors.StoreUnavailable as error:
                assert "start a thread" in str(error), error
            else:
                raise AssertionError("opened without a thread")
            await store.close()

        asyncio.run(main())
        limit(most)
        with eb.open(location) as store:
            assert store.head() == 2
        """
    )


def test_a_forked_child_that_gets_no_threads_gets_an_error_of_the_library():
    without_threads(
        """
        async def main(location, refusal):
            store = await eb.open_async(location)
            await store.append([("s", "x", b"1")])
            child = os.fork()
            if not child:
                refused()
                for _ in range(2):
                    try:
                        await store.head()
                    except refusal as error:
                        if refusal is eb.errors.StoreUnavailable:
                            assert "start a thread" in str(error), error
                    else:
                        raise AssertionError("opened without a thread")
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
            await store.close()

        asyncio.run(main(location, eb.errors.StoreUnavailable))
        asyncio.run(main("memory:", eb.errors.StoreClosed))
        """
    )


def test_another_process_joins_one_that_gets_no_threads():
    without_threads(
        """
        refused()
        store = eb.open(location)
        store.append([("s", "x", b"1")])
        limit(most)
        child = os.fork()
        if not child:
            with eb.open(location) as other:
                other.append([("s", "x", b"2")])
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.version("s") == 2
        store.close()
        """
    )
