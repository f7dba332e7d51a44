"""The tests set the signals that they rely on: started under nohup they pass, too.

The hazard: a shell starts its background jobs with SIGINT ignored. Each program that the
tests start inherits that, so a test that presses Ctrl-C waits until its time-out.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

INTERRUPTED = "tests/integration/test_cli_read.py::test_ctrl_c_ends_following"


def background() -> None:
    """What a shell and nohup leave to a job in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])


# A busy machine needs minutes for a run of pytest. One that waits for an ignored signal
# ends by its own timeout of 300 s.
@pytest.mark.timeout(450)
def test_tests_of_ctrl_c_pass_where_signals_are_ignored_and_blocked(repository):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", INTERRUPTED],
        cwd=repository,
        preexec_fn=background,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout
