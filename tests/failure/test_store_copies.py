"""Copies of a store that share files with it: hard links, bind mounts, symbolic links.

The hazard: two sessions that each have the locks of their own directory append to the same
file, each over the frames of the other, and acknowledged events of both are lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import eventbraid as eb
from tests.mounts import mounted
from tests.peers import peer, peers

pytestmark = pytest.mark.timeout(120)

SMALL = {"segment_size": 65536, "max_segment_size": 65536}
# This number of events of this size fills more than a segment.
MANY, BODY = 40, b"y" * 3_000


@pytest.fixture
def location(tmp_path):
    return tmp_path / "shop.braid"


@pytest.fixture
def copy(tmp_path):
    return tmp_path / "snapshot.braid"


def linked(source, target):
    """Copy a directory as `cp -al` does: the directories are new, the files the same."""
    subprocess.run(["cp", "-al", source, target], check=True, timeout=120)


def append(store, stream, count=MANY):
    for _ in range(count):
        store.append([(stream, "x", BODY)])


def request_appends(other, stream, count=MANY):
    other.tell(
        f"[store.append([({stream!r}, 'x', {BODY!r})]) for _ in range({count})] and 0"
    )


def found(location):
    """Verify a store, and return the versions of its streams."""
    with eb.open(location, create=False, **SMALL) as store:
        assert store.verify().events == store.head()
        return {name: store.version(name) for name in store.streams()}


def inodes(location, pattern="**/*"):
    return {path.stat().st_ino for path in location.glob(pattern) if path.is_file()}


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
def test_a_copy_by_hard_links_of_an_open_store_shares_no_event_with_it(
    location, copy, mode
):
    with peer(location, **SMALL) as original:
        original.append("before")
        linked(location, copy)
        with eb.open(copy, mode=mode, **SMALL) as snapshot:
            assert snapshot.version("before") == 1
            request_appends(original, "original")
            append(snapshot, "copy")
            assert original.answer() == 0
            assert (
                snapshot.version("original")
                == original.ask("store.version('copy')")
                == 0
            )
        original.close()
    assert found(location) == {"before": 1, "original": MANY}
    assert found(copy) == {"before": 1, "copy": MANY}


@pytest.mark.parametrize("first", ["original", "copy"])
def test_a_copy_by_hard_links_of_a_closed_store_shares_no_event_with_it(
    location, copy, first
):
    with eb.open(location, **SMALL) as store:
        append(store, "before")
    linked(location, copy)
    order = [("original", location), ("copy", copy)]
    for name, path in order if first == "original" else reversed(order):
        with eb.open(path, **SMALL) as store:
            append(store, name)
    with peer(location, **SMALL) as one, peer(copy, **SMALL) as other:
        request_appends(one, "original")
        request_appends(other, "copy")
        assert one.answer() == other.answer() == 0
        one.close()
        other.close()
    assert found(location) == {"before": MANY, "original": 2 * MANY}
    assert found(copy) == {"before": MANY, "copy": 2 * MANY}


def test_a_copy_by_hard_links_has_locks_of_its_own(location, copy):
    with peers(location, 2, **SMALL) as [one, other], contextlib.ExitStack() as held:
        one.append("original")
        linked(location, copy)
        assert inodes(copy, "locks/*.lock") == inodes(location, "locks/*.lock")
        with eb.open(copy, **SMALL) as snapshot, peer(copy, **SMALL) as beside:
            for pattern in ("locks/*.lock", "coord.shm"):
                assert not inodes(copy, pattern) & inodes(location, pattern)
            for lock in (copy / "locks").glob("*.lock"):
                # Like a process that was stopped while it held the lock.
                file = held.enter_context(lock.open())
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert one.append("original") == other.append("original") - 1 == 2
            with peer(location, **SMALL) as late:
                assert late.append("original") == 4
            held.close()
            snapshot.append([("copy", "x", b"")])
            assert beside.append("copy") == 3
    assert found(location) == {"original": 4}
    assert found(copy) == {"original": 1, "copy": 2}


def test_a_linked_copy_is_never_opened_as_part_of_the_original(location, copy):
    with peers(location, 2, **SMALL) as [one, other]:
        one.append("original")
        other.append("original")
        linked(location, copy)
        # The copy then seems to be open: its shared page is that of the original.
        directory = os.open(copy, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_SH)
            with pytest.raises(eb.StoreBusy):
                eb.open(copy, lock_timeout=0.3, **SMALL)
        finally:
            os.close(directory)
        assert one.ask("len(store.stats().sessions)") == 2
    assert found(copy) == {"original": 2}


def test_copies_by_hard_links_during_appends_are_complete(location, tmp_path):
    """Copies are made one after the other, and opened while the original appends."""
    with eb.open(location, **SMALL) as store, peer(location, **SMALL) as original:
        for number in range(8):
            head = original.ask("store.head()")
            request_appends(original, "original", 150)
            copy = tmp_path / f"snapshot-{number}.braid"
            # Names may be replaced while `cp` reads the directory.
            subprocess.run(
                ["cp", "-al", location, copy],
                check=False,
                timeout=120,
                capture_output=True,
            )
            try:
                with eb.open(copy, create=False, **SMALL) as snapshot:
                    assert snapshot.verify().events == snapshot.head() >= head
                    append(snapshot, "copy", 3)
            except (eb.errors.CorruptStore, eb.errors.NotAStore):
                continue  # Refused: a file was missing when `cp` copied it.
            finally:
                assert original.answer() == 0
        assert store.version("original") == store.head() == 8 * 150


def test_one_linked_segment_is_copied_before_it_is_written(location, copy):
    with eb.open(location, **SMALL) as store:
        append(store, "before")
    shutil.copytree(location, copy)
    last = max((copy / "log").glob("*.hot"))
    while not any(last.read_bytes()[4096:4100]):
        last = last.with_name(f"{int(last.stem) - 1:010}.hot")
    last.unlink()
    last.hardlink_to(location / "log" / last.name)
    kept = last.read_bytes()
    for path in (copy, location):
        with eb.open(path, **SMALL) as store:
            append(store, "after", 3)
    assert last.stat().st_nlink == 1
    assert kept.rstrip(b"\0") in last.read_bytes()
    assert found(location) == found(copy) == {"before": MANY, "after": 3}


def test_segments_that_are_not_written_again_stay_linked(location, copy):
    with eb.open(location, **SMALL) as store:
        append(store, "before")
    linked(location, copy)
    with eb.open(copy, **SMALL) as store:
        append(store, "copy")
    assert len(inodes(location, "log/*.hot") & inodes(copy, "log/*.hot")) >= 1


@pytest.mark.parametrize("how", ["symbolic link", "bind mount"])
def test_a_log_directory_is_written_through_one_store_directory_at_a_time(
    location, copy, how
):
    with eb.open(location, **SMALL) as store:
        append(store, "before")
    shutil.copytree(location, copy)
    shutil.rmtree(copy / "log")
    with contextlib.ExitStack() as mounts:
        if how == "symbolic link":
            (copy / "log").symlink_to(location / "log")
        else:
            (copy / "log").mkdir()
            bind = mounted(copy / "log", "--bind", str(location / "log"))
            if mounts.enter_context(bind):
                pytest.skip("may not mount")
        for path, other in ((location, copy), (copy, location)):
            with peer(path, **SMALL) as original:
                request_appends(original, "s")
                with pytest.raises(eb.StoreBusy, match="same log") as busy:
                    eb.open(other, **SMALL)
                assert busy.value.path == str(other)
                assert original.answer() == 0
                original.close()
        assert found(location) == {"before": MANY, "s": 2 * MANY}


def test_a_store_that_was_replaced_by_its_copy_waits_for_the_sessions_of_the_old_one(
    location, copy
):
    with peer(location, **SMALL) as original:
        original.append("before")
        linked(location, copy)
        shutil.rmtree(location)
        copy.rename(location)
        with pytest.raises(eb.StoreBusy, match="same log"):
            eb.open(location, **SMALL)
        # Into the file that the copy shares.
        assert original.append("original") == 2
        original.kill()
    assert found(location) == {"before": 1, "original": 1}


def test_a_read_only_opening_of_a_linked_copy_changes_nothing(location, copy):
    with peer(location, **SMALL) as original:
        request_appends(original, "original")
        assert original.answer() == 0
        linked(location, copy)
        before = {path: path.stat().st_ino for path in copy.rglob("*")}
        with eb.open(copy, read_only=True, **SMALL) as snapshot:
            append_more = 25
            request_appends(original, "original", append_more)
            assert original.answer() == 0
            assert snapshot.verify().events == snapshot.head() <= MANY
        assert {path: path.stat().st_ino for path in copy.rglob("*")} == before
        assert original.ask("store.version('original')") == MANY + append_more
        original.close()
    assert found(location) == {"original": MANY + append_more}


def test_a_copy_without_links_is_not_changed(location, copy):
    with eb.open(location, **SMALL) as store:
        append(store, "before")
        shutil.copytree(location, copy)
        files = inodes(copy, "log/*.hot")
        with eb.open(copy, **SMALL) as snapshot:
            append(snapshot, "copy", 1)
        assert files <= inodes(copy, "log/*.hot")
        append(store, "original", 1)
    assert found(location) == {"before": MANY, "original": 1}
    assert found(copy) == {"before": MANY, "copy": 1}


def test_an_interrupted_copy_is_started_again(location, copy):
    with eb.open(location, **SMALL) as store:
        append(store, "before", 3)
    linked(location, copy)
    segment = copy / "log" / "0000000001.hot"
    segment.with_suffix(".hot.tmp").write_bytes(segment.read_bytes()[:5000])
    with eb.open(copy, **SMALL) as store:
        append(store, "copy", 3)
    assert not segment.with_suffix(".hot.tmp").exists()
    assert found(location) == {"before": 3}
    assert found(copy) == {"before": 3, "copy": 3}


def test_a_forked_child_keeps_no_claim_on_the_log(location, copy):
    """A process that only has the files of its parent locks no other out."""
    with eb.open(location, **SMALL) as store:
        store.append([("a", "x", b"")])
        ready, leave = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.close(leave[1])
            os.write(ready[1], b"r")
            os.read(leave[0], 1)
            os._exit(0)
        assert os.read(ready[0], 1) == b"r"
    try:
        shutil.move(location, copy)
        assert found(copy) == {"a": 1}
    finally:
        os.close(leave[1])
        os.waitpid(child, 0)
        for end in (*ready, leave[0]):
            os.close(end)
    assert Path(copy).exists()
