"""What readers hold decides how much memory they need, not the log around it.

The hazard: events of one byte that were committed in bulk with others, each of which
keeps its whole commit in memory.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

import eventbraid as eb

COMMITS = 60
_READ = f"""
import sys
import eventbraid as eb

BEGINNINGS = range(0, {COMMITS * 1025}, 1025)

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if "VmRSS" in line) / 1024

with eb.open(sys.argv[1], cache_size=1 << 20) as store:
    list(store.read_stream("small-1", limit=1))
    before = resident()
    held = eval(sys.argv[2])
    assert len(held) == {COMMITS}, len(held)
    print(resident() - before)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Write a log in which each event of one byte is among a MiB of others."""
    path = tmp_path_factory.mktemp("bulk") / "bulk.braid"
    with eb.open(path) as store:
        for number in range(COMMITS):
            bulk = [(f"bulk-{number}", "b", bytes(1024))] * 1024
            store.append([("small-1", "x", b"1"), *bulk])
    return path


@pytest.mark.parametrize(
    "read",
    [
        "list(store.read_stream('small-1'))",
        "list(store.read_all(category='small'))",
        "list(store.read_all(stream='small-1', backward=True))",
        "store.read_streams(['small-1']).events",
        "[next(store.subscribe(prefix='small', after=at)) for at in BEGINNINGS]",
    ],
)
def test_events_that_are_kept_need_memory_for_their_own_bytes(path, read):
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(path), read],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Before, each event held a MiB; the rest is what the allocator keeps for itself.
    assert float(done.stdout) < COMMITS / 3


def test_an_event_tells_what_it_holds(path):
    with eb.open(path) as store:
        [small] = store.read_stream("small-1", limit=1)
        [bulk] = store.read_stream("bulk-0", limit=1)
    assert sys.getsizeof(small) < 256
    assert 1024 < sys.getsizeof(bulk) < 2048
