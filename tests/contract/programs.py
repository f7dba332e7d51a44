"""Programs of their own, for what can't be tried inside of the test's process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

PIPE = subprocess.PIPE

# A test run that was started in a shell's background hands its children a SIGINT that
# is ignored; Python then makes no KeyboardInterrupt of it.
PREAMBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
import eventbraid as eb
"""


def run(program, *arguments, seconds=30, warnings="default", **options):
    """Run a program to its end; answer how it ended and what it printed."""
    with started(program, *arguments, warnings=warnings, **options) as process:
        output, errors = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@contextlib.contextmanager
def started(program, *arguments, warnings="default", **options):
    """Start a program; killed at the end of the block if it still runs."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-X",
            "faulthandler",
            f"-W{warnings}",
            "-c",
            PREAMBLE + textwrap.dedent(program),
            *map(str, arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )
    try:
        yield process
    finally:
        # The whole group: a child of the program would keep the pipes open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def line(process):
    """Wait for the program's next line."""
    return process.stdout.readline().strip()
