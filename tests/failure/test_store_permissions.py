"""The permissions of a store's files, and the errors without them.

The hazard: a store that only root can open, a half-opened one, or a message that names no
path. Root, which may run these tests, has every permission: so each open runs in a process
of its own,
which gives up root's rights first.
"""

from __future__ import annotations

import errno
import json
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import eventbraid as eb

NOBODY = 65534

TRY = """
import json, os, sys
import eventbraid as eb
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({nobody}, {nobody}, {nobody})
    os.setresuid({nobody}, {nobody}, {nobody})
path, options = sys.argv[1], json.loads(sys.argv[2])
try:
    with eb.open(path, **options) as store:
        shown = [event.data.decode() for event in store.read_all()]
        try:
            store.append([("a", "x", b"more")])
            append = None
        except eb.errors.StoreUnavailable as error:
            append = [error.errno, str(error)]
        print(json.dumps({{"shown": shown, "append": append}}))
except eb.EventbraidError as error:
    facts = [type(error).__name__, getattr(error, "errno", None), str(error)]
    print(json.dumps({{"refused": facts}}))
"""


def tried(path, **options):
    """Return the error that a process without permissions gets."""
    done = subprocess.run(
        [sys.executable, "-c", TRY.format(nobody=NOBODY), path, json.dumps(options)],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return json.loads(done.stdout)


@pytest.fixture
def open_to_all():
    """A directory that every user may enter; those of pytest belong to one user."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for directory in [folder, *folder.rglob("*")]:
        if directory.is_dir():
            directory.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def store_path(open_to_all):
    path = open_to_all / "shop.braid"
    with eb.open(path) as store:
        store.append([("a", "x", b"one"), ("b", "x", b"two")])
    return path


def allow(path, directories, files):
    for entry in [*path.rglob("*"), path]:
        entry.chmod(directories if entry.is_dir() else files)


def snapshot(path):
    return {
        str(entry): (entry.stat().st_mtime_ns, entry.stat().st_size)
        for entry in [path, *path.rglob("*")]
    }


def test_a_store_without_write_permission_is_refused_and_the_error_names_read_only(
    store_path,
):
    allow(store_path, 0o555, 0o444)
    kind, number, message = tried(store_path)["refused"]
    assert (kind, number) == ("StoreUnavailable", errno.EACCES)
    assert str(store_path) in message
    assert "read_only=True" in message


def test_a_store_without_write_permission_is_read_without_a_change(store_path):
    allow(store_path, 0o555, 0o444)
    before = snapshot(store_path)
    answer = tried(store_path, read_only=True)
    assert answer["shown"] == ["one", "two"]
    number, message = answer["append"]
    assert number == errno.EROFS
    assert "read_only" in message
    assert snapshot(store_path) == before


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("closed", [".", "log", "IDENTITY", "log/0000000001.hot"])
def test_a_file_without_read_permission_is_named(store_path, closed, read_only):
    # A missing permission to write is reported first, except for a read-only open.
    allow(store_path, *((0o555, 0o444) if read_only else (0o777, 0o666)))
    (store_path / closed).chmod(0)
    kind, number, message = tried(store_path, read_only=read_only)["refused"]
    assert (kind, number) == ("StoreUnavailable", errno.EACCES)
    assert str(store_path / closed) in message


def test_a_store_is_not_created_without_write_permission(open_to_all):
    open_to_all.chmod(0o555)
    kind, number, message = tried(open_to_all / "new.braid")["refused"]
    assert (kind, number) == ("StoreUnavailable", errno.EACCES)
    assert str(open_to_all / "new.braid") in message
    assert list(open_to_all.iterdir()) == []


def test_a_directory_that_is_no_store_is_reported_as_such(open_to_all):
    (open_to_all / "notes.txt").write_text("buy milk")
    for path in [open_to_all, open_to_all / "notes.txt", open_to_all / "none"]:
        kind, _, message = tried(path, read_only=True)["refused"]
        assert kind == "NotAStore"
        assert str(path) in message


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_files_belong_to_their_owner_alone_whatever_the_umask(tmp_path, mask):
    making = (
        "import sys, eventbraid as eb\n"
        "with eb.open(sys.argv[1], segment_size=65536) as store:\n"
        "    for n in range(9):\n"
        "        store.append([('a', 'x', bytes(30_000))])\n"
    )
    path = tmp_path / "shop.braid"
    command = [sys.executable, "-c", making, str(path)]
    subprocess.run(command, check=True, timeout=60, umask=mask)
    entries = [path, *path.rglob("*")]
    assert len(entries) > 7
    modes = {entry: stat.S_IMODE(entry.stat().st_mode) for entry in entries}
    expected = {entry: 0o700 if entry.is_dir() else 0o600 for entry in entries}
    assert modes == expected


def test_the_process_of_these_tests_has_no_permissions(open_to_all):
    # Otherwise the tests above would prove nothing.
    (open_to_all / "closed").mkdir(mode=0)
    kind, number, message = tried(open_to_all / "closed" / "store")["refused"]
    assert (kind, number) == ("StoreUnavailable", errno.EACCES), message
