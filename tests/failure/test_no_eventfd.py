"""Without an eventfd the way back into an event loop is a pair of sockets, as good.

The hazard: a way that only other systems and sandboxes take, and that nobody ever ran. Here
strace refuses every eventfd to a run of the async tests; where it may not trace, the test
is skipped.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.failure.test_engine_strace import why_not

STRACE = shutil.which("strace") or "strace"
REFUSED = "inject=eventfd,eventfd2:error=ENOSYS"

KIND = """
import os
from eventbraid._native import CompletionPort

port = CompletionPort()
print(os.readlink(f"/proc/self/fd/{port.fileno()}"))
"""


@pytest.fixture
def run(repository):
    """Run Python without eventfds."""
    if reason := why_not():
        pytest.skip(reason)

    def run(*arguments):
        # Every other call runs at its own speed.
        options = ["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", REFUSED]
        return subprocess.run(
            [STRACE, *options, sys.executable, *arguments],
            cwd=repository,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    return run


def test_an_eventfd_is_used_where_there_is_one():
    kind = subprocess.run([sys.executable, "-c", KIND], capture_output=True, check=True)
    assert b"[eventfd]" in kind.stdout


def test_async_stores_work_without_it(run):
    assert run("-c", KIND).stdout.startswith("socket:")
    # uvloop itself needs one; how many share a sync is a matter of speed.
    chosen = "not uvloop and not share_syncs"
    tests = ["tests/integration/test_async_store.py", "-k", chosen]
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
