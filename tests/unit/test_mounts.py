"""The tests unmount what an interrupted run left, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.mounts import MARK, mounted, unmount, unmount_leftovers

TMPFS = ("-t", "tmpfs", "-o", "size=64k", "eventbraid-test")


@pytest.fixture
def ended():
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(30)
    return str(process.pid)


def test_only_marked_mounts_of_ended_processes_are_unmounted(tmp_path, ended):
    names = ("own of another", "of a live process", "of nobody")
    left, live, foreign = places = [tmp_path / name for name in names]
    for place in places:
        place.mkdir()
        done = subprocess.run(["mount", *TMPFS, place], check=False)
        if done.returncode:
            pytest.skip("may not mount")
    try:
        left.with_name(left.name + MARK).write_text(ended)
        with mounted(live, *TMPFS):
            assert unmount_leftovers(tmp_path / "elsewhere") == []
            assert unmount_leftovers(tmp_path) == [left]
        assert [place.is_mount() for place in places] == [False, True, True]
        assert not left.with_name(left.name + MARK).exists()
    finally:
        for place in (live, foreign):
            unmount(place)
        if left.is_mount():
            unmount(left)
