"""Programs in processes of their own, for tests that need another process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

PIPE = subprocess.PIPE

# The children of a test run in the background of a shell ignore SIGINT, and Python then
# raises no KeyboardInterrupt.
PREAMBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
import eventbraid as eb
"""


def run(program, *arguments, seconds=120, warnings="default", **options):
    """Run a program to its end, and return its exit code and its output."""
    with started(program, *arguments, warnings=warnings, **options) as process:
        output, errors = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@contextlib.contextmanager
def started(program, *arguments, warnings="default", **options):
    """Start a program, and kill it at the end of the block if it still runs."""
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
        # The whole process group: a child of the program would keep the pipes open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def line(process):
    """Wait for the next line of the program."""
    return process.stdout.readline().strip()
