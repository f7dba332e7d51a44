"""The owners of the files of a store that processes of several users open.

The hazard: a process of root, or of another member of a group, leaves a file that the
owner's processes may not open, and the store is lost to its owner.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile

import pytest

import eventbraid as eb

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as several users"),
]

OWNER, COLLEAGUE, GROUP = 64_001, 64_002, 64_100
SMALL = {"segment_size": 65536, "max_segment_size": 65536}

PROGRAM = """
import json, os, sys
import eventbraid as eb
user, group, groups, mask, path, options, code = json.loads(sys.argv[1])
os.umask(mask)
if user:
    os.setgroups(groups)
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
try:
    with eb.open(path, **options) as store:
        exec(code)
except eb.EventbraidError as error:
    print(type(error).__name__, error, flush=True)
print("done", flush=True)
"""

APPEND = "for _ in range(20): store.append([('s', 'x', bytes(10_000))])"


@pytest.fixture
def shared_folder():
    """A directory that every user may write to; those of pytest belong to one user."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def started(user, path, code, *, group=None, groups=(), mask=0o022, **options):
    """Start a process of a user that opens the store, runs code and ends."""
    import json

    group = user if group is None else group
    arguments = [user, group, [*groups], mask, str(path), SMALL | options, code]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def done(user, path, code=APPEND, **options):
    """Run code in a process of a user, and return its errors."""
    with started(user, path, code, **options) as process:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return output.removesuffix("done\n")


def entries(path):
    return [path, *path.rglob("*")]


def owners(path):
    found = [entry.stat() for entry in entries(path)]
    return {(entry.st_uid, entry.st_gid) for entry in found}


def modes(path):
    return {
        (entry.is_dir(), oct(stat.S_IMODE(entry.stat().st_mode)))
        for entry in entries(path)
    }


def test_what_root_appends_belongs_to_the_owner_of_the_store(shared_folder):
    path = shared_folder / "shop.braid"
    assert done(OWNER, path) == ""
    # New segments, manifests, locks and the shared page: every file of a session.
    for file in (path / "locks").iterdir():
        file.unlink()
    (path / "coord.shm").unlink()
    assert done(0, path) == ""
    assert owners(path) == {(OWNER, OWNER)}
    assert modes(path) == {(True, "0o700"), (False, "0o600")}
    assert done(OWNER, path) == ""


@pytest.mark.parametrize("read_only", [False, True])
def test_a_session_of_root_locks_no_worker_of_the_owner_out(shared_folder, read_only):
    path = shared_folder / "shop.braid"
    stay = (
        "store.append([('s', 'x', b'')]); print('in', flush=True); sys.stdin.readline()"
    )
    with started(OWNER, path, stay) as worker:
        assert worker.stdout.readline() == "in\n"
        before = entries(path)
        command = [sys.executable, "-m", "eventbraid", "stats", path]
        subprocess.run(
            [*command, *(["--read-only"] if read_only else [])],
            check=True,
            timeout=60,
            capture_output=True,
        )
        if read_only:
            assert entries(path) == before
        assert owners(path) == {(OWNER, OWNER)}
        assert done(OWNER, path) == ""


def test_a_session_lock_without_access_is_skipped(shared_folder):
    path = shared_folder / "shop.braid"
    assert done(OWNER, path) == ""
    stay = (
        "store.append([('s', 'x', b'')]); print('in', flush=True); sys.stdin.readline()"
    )
    with started(OWNER, path, stay) as worker:
        assert worker.stdout.readline() == "in\n"
        # The permissions of earlier versions.
        for number in (1, 2):
            lock = path / "locks" / f"session-{number}.lock"
            lock.touch()
            os.chown(lock, 0, 0)
            lock.chmod(0o600)
        see = "print(len(store.stats().sessions), flush=True)"
        assert done(OWNER, path, f"{APPEND}\n{see}") == "2\n"


@pytest.mark.parametrize("mask", [0o022, 0o077])
@pytest.mark.parametrize("sticks", [True, False])
def test_users_of_one_group_share_a_store_whatever_their_umask(
    shared_folder, mask, sticks
):
    path = shared_folder / "shop.braid"
    path.mkdir()
    os.chown(path, OWNER, GROUP)
    path.chmod(0o2770 if sticks else 0o770)
    for user in (OWNER, COLLEAGUE, 0, OWNER, COLLEAGUE):
        assert done(user, path, groups=[GROUP], mask=mask) == "", user
    assert {group for _, group in owners(path)} == {GROUP}
    kept = "0o2770" if sticks else "0o770"
    assert modes(path) == {(True, kept), (False, "0o660")}
    with started(
        OWNER, path, "print('in', flush=True); sys.stdin.readline()", groups=[GROUP]
    ) as worker:
        assert worker.stdout.readline() == "in\n"
        assert done(COLLEAGUE, path, groups=[GROUP], mask=mask) == ""


def test_a_group_with_read_permission_reads_and_does_not_write(shared_folder):
    path = shared_folder / "shop.braid"
    path.mkdir()
    os.chown(path, OWNER, GROUP)
    path.chmod(0o750)
    assert done(OWNER, path, groups=[GROUP]) == ""
    assert modes(path) == {(True, "0o750"), (False, "0o640")}
    show = "print(store.head(), flush=True)"
    assert done(COLLEAGUE, path, show, groups=[GROUP], read_only=True) == "20\n"
    assert done(COLLEAGUE, path, show, groups=[GROUP]).startswith("StoreUnavailable")


def test_no_other_user_may_read_a_store_in_a_directory_open_to_all(shared_folder):
    path = shared_folder / "shop.braid"
    path.mkdir(mode=0o755)
    with eb.open(path) as store:
        store.append([("a", "x", b"")])
    rights = [entry.stat().st_mode for entry in entries(path) if entry != path]
    assert not any(mode & 0o007 for mode in rights)
