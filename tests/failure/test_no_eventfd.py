"""Without an eventfd a pair of sockets wakes an event loop.

The hazard: code that only other systems and sandboxes execute, and that no test runs. Here
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
        # Every other call runs at full speed: the filter needs the calls to trace.
        options = ["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"]
        options += ["-e", "trace=eventfd,eventfd2", "-e", REFUSED]
        return subprocess.run(
            [STRACE, *options, sys.executable, *arguments],
            cwd=repository,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    return run


def test_an_eventfd_is_used_if_it_is_available():
    kind = subprocess.run([sys.executable, "-c", KIND], capture_output=True, check=True)
    assert b"[eventfd]" in kind.stdout


def test_async_stores_work_without_an_eventfd(run):
    assert run("-c", KIND).stdout.startswith("socket:")
    # uvloop itself needs an eventfd; the number of commits in a sync depends on speed.
    chosen = "not uvloop and not share_syncs"
    tests = ["tests/integration/test_async_store.py", "-k", chosen]
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
