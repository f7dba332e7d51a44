"""Fixtures and settings that every category of tests shares."""

from __future__ import annotations

import getpass
import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.contract.loops import ASYNCIO, TRIO
from tests.mounts import unmount_leftovers

# Tests that start pyright as a process must not make it look for updates.
os.environ.setdefault("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1")

# Whatever starts the tests may have signals ignored or blocked: a shell ignores SIGINT in
# its background jobs, nohup ignores SIGHUP. Both pass to every process started from here,
# where a test would then wait for the end of a program that can't be interrupted.
_NEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
signal.pthread_sigmask(signal.SIG_UNBLOCK, _NEEDED)
for _signal in _NEEDED:
    if signal.getsignal(_signal) == signal.SIG_IGN:
        interrupts = _signal == signal.SIGINT
        signal.signal(
            _signal, signal.default_int_handler if interrupts else signal.SIG_DFL
        )

# On a shared two-core machine a slow example is a busy neighbour, not a bug; the
# timeout of the test still catches one that hangs. Derandomised, so that a red
# build is red again on the next run: a longer search is `--hypothesis-profile=search`.
settings.register_profile("default", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2_000)
settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    """Unmount what an interrupted run left below the temporary root, which is removed."""
    given: str | None = config.getoption("basetemp", None)
    root = Path(os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir())
    unmount_leftovers(Path(given) if given else root / f"pytest-of-{getpass.getuser()}")


@pytest.fixture(params=[ASYNCIO, TRIO])
def anyio_backend(request):
    """Both event loops: a test marked `anyio` runs on each."""
    return request.param


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return Path(__file__).parent.parent
