"""A full disk is reported with the remedy, and no acknowledged commit is lost.

The hazard: an append that fails halfway, a store that can't be read because it can't be
written, a close that looks like a loss. The disk is a file system in memory of a few
megabytes; where one can't be mounted the tests are skipped.
"""

from __future__ import annotations

import contextlib
import errno
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventbraid as eb
from tests.contract.asking import listed
from tests.mounts import mounted
from tests.peers import peer

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=3m", "eventbraid-test"]
    with mounted(place, *options) as refused:
        if refused:
            pytest.skip(f"no file system can be mounted here: {refused}")
        yield place


def fill(disk: Path) -> Path:
    """Fill the disk, and return the file that fills it."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1):
            with pytest.raises(OSError, match="No space left"):
                while file.write(bytes(size)):
                    pass
    return filler


@contextlib.contextmanager
def opened(path: Path) -> Iterator[eb.EventStore]:
    """A store without space for its manifest at the close: zeros occupy all of it."""
    store = eb.open(path)
    try:
        yield store
    finally:
        with contextlib.suppress(eb.errors.StorageFull):
            store.close()


def append_until_full(store: eb.EventStore) -> tuple[int, eb.errors.StorageFull]:
    """Append until the disk is full. Return the number of successful appends."""
    for number in range(10_000):
        try:
            store.append([("a", "x", b"x" * 20_000)])
        except eb.errors.StorageFull as full:
            return number, full
    raise AssertionError("the disk never was full")


def test_an_append_on_a_full_disk_is_refused_and_succeeds_after_it_is_freed(disk):
    (disk / "other").write_bytes(bytes(MIB))
    with opened(disk / "store") as store:
        done, full = append_until_full(store)
        assert done > 10
        assert full.errno == errno.ENOSPC
        assert full.path.startswith(str(disk))
        assert "free some space and append again" in str(full)
        assert [event.version for event in store.read_stream("a")] == [
            *range(1, done + 1)
        ]
        assert store.head() == done
        (disk / "other").unlink()
        assert store.append([("a", "x", b"again")]).versions == {"a": done + 1}
    with opened(disk / "store") as store:
        assert store.head() == done + 1
        store.verify()


@pytest.mark.anyio
async def test_an_async_append_on_a_full_disk_is_refused_alike(disk):
    (disk / "other").write_bytes(bytes(MIB))
    with opened(disk / "store") as shared:
        store = shared.as_async()
        with pytest.raises(
            eb.errors.StorageFull, match="free some space and append again"
        ):
            for _ in range(10_000):
                await store.append([("a", "x", b"x" * 20_000)])
        assert len(await listed(store.read_all())) == await store.head()


@pytest.mark.anyio
async def test_a_store_on_a_full_disk_is_not_opened_and_can_be_opened_later(disk):
    filler = fill(disk)
    with pytest.raises(eb.errors.StorageFull, match="open the store again") as caught:
        eb.open(disk / "store")
    assert caught.value.path.startswith(str(disk))
    with pytest.raises(eb.errors.StorageFull, match="open the store again"):
        await eb.open_async(disk / "store")
    filler.unlink()
    with eb.open(disk / "store") as store:
        assert store.append([("a", "x", b"")]).last_position == 1


@pytest.mark.anyio
async def test_a_store_on_a_full_disk_is_closed_without_a_loss(disk):
    store = eb.open(disk / "store")
    store.append([("a", "x", b"")])
    filler = fill(disk)
    with pytest.raises(eb.errors.StorageFull, match="closed all the same"):
        store.close()
    store.close()
    with pytest.raises(eb.errors.StoreClosed):
        store.append([("a", "x", b"")])
    filler.unlink()
    store = await eb.open_async(disk / "store")
    assert await store.head() == 1
    await store.append([("a", "x", b"")])
    filler = fill(disk)
    with pytest.raises(eb.errors.StorageFull, match="closed all the same"):
        await store.close()
    filler.unlink()
    with eb.open(disk / "store") as store:
        assert store.head() == 2


def test_sessions_of_one_store_are_refused_and_continue_alike(disk):
    (disk / "other").write_bytes(bytes(MIB))
    with opened(disk / "store") as here, peer(disk / "store") as there:
        there.append("b", b"first")
        done, _ = append_until_full(here)
        kind, reason = there.ask("store.append([('b', 'x', b'x' * 200_000)])")
        assert (kind, "free some space" in reason) == ("StorageFull", True)
        assert there.ask("store.head()") == here.head() == done + 1
        (disk / "other").unlink()
        assert there.append("b", b"second") == done + 2
        assert here.append([("b", "x", b"third")]).versions == {"b": 3}
        here.verify()
    with opened(disk / "store") as store:
        assert store.head() == done + 3
        store.verify()


def test_a_process_with_a_file_size_limit_blocks_no_other_process(tmp_path):
    """A process of a user without remaining quota, or of a shell with a limit."""
    limit = f"__import__('resource').setrlimit({resource.RLIMIT_FSIZE}, ({MIB}, -1))"
    chunk = ("a", "x", b"x" * 20_000)
    with eb.open(tmp_path / "s") as here, peer(tmp_path / "s") as limited:
        assert limited.ask(limit) is None
        assert limited.append("b", b"within") == 1
        # Into the second file, beyond the limit of the other process.
        for _ in range(120):
            here.append([chunk])
        assert 2 * MIB < here.stats().bytes < 3 * MIB
        kind, reason = limited.ask("store.append([('b', 'x', b'beyond')])")
        assert (kind, "ulimit -f" in reason) == ("StoreUnavailable", True)
        here.append([("b", "x", b"others go on")])
        assert limited.ask("store.head()") == here.head() == 122
        seen = limited.ask("[event.data for event in store.read_stream('b')]")
        assert seen == [b"within", b"others go on"]
        while here.stats().bytes < 3 * MIB:
            here.append([chunk])
        last = here.append([("b", "x", b"a file begins")]).last_position
        # The third file is within the limit of the other process.
        assert limited.append("b", b"within again") == last + 1
        here.verify()
    with eb.open(tmp_path / "s") as store:
        assert store.head() == last + 1
        store.verify()
