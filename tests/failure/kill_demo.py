"""Kill a real `eventbraid demo` at random moments, then let it reconcile.

    python tests/failure/kill_demo.py --kills 20 --limit 2000 [--seed 7]
        [--longest 4] [--directory DIR] [--coordinators 3]

`--limit 69659 --longest 16` runs every order, with time to start on a long log.

Each round starts the demo on the same directory and sends SIGKILL at a moment drawn
from the seed: while the store is opened, while orders run, while customers are notified,
while log and ledgers are compared. The last round is not killed and must end with exit
code 0: every order in one final state, each key in effect at most once.

With `--coordinators 3` three processes share the store. At moments drawn from the seed one
of them is killed, and the demo starts it again. When all orders are fulfilled, the next
round begins in a new directory, until the number of kills is reached; each round must
reconcile.

SIGKILL says nothing about power loss: the page cache survives it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

READY_SECONDS = 0.2
COORDINATOR = re.compile(r"coordinator (\d+) is process (\d+)")


def kill_and_reconcile(
    directory: Path,
    *,
    kills: int,
    limit: int,
    seed: int,
    longest: float = 4.0,
    options: tuple[str, ...] = (),
) -> tuple[int, str]:
    """Kill the demo repeatedly, then let it end.

    Returns:
        The exit code of the last run, and its output.
    """
    rng = random.Random(seed)
    command = [
        *(sys.executable, "-m", "eventbraid", "demo", str(directory)),
        *("--limit", str(limit), *options),
    ]
    slowest = longest
    for kill in range(1, kills + 1):
        began = time.monotonic()
        code = _run_and_kill(command, rng.uniform(READY_SECONDS, slowest))
        took = time.monotonic() - began
        print_line(f"kill {kill} of {kills} after {took:.2f} s: exit code {code}")
        if code == 0:
            # It ended before the signal: kill the next runs earlier.
            slowest = max(2 * READY_SECONDS, min(slowest, took))
        elif code != -signal.SIGKILL:
            return code, "the demo ended by itself with an error"
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600
    )
    return done.returncode, done.stdout + done.stderr


def kill_coordinators(
    directory: Path,
    *,
    coordinators: int,
    kills: int,
    limit: int,
    seed: int,
    longest: float = 1.5,
    options: tuple[str, ...] = (),
) -> tuple[int, int, str]:
    """Kill single coordinators of one demo while it runs.

    Returns:
        The number of kills, the exit code of the demo, and its output.
    """
    command = [
        *(sys.executable, "-m", "eventbraid", "demo", str(directory)),
        *("--limit", str(limit), "--coordinators", str(coordinators), *options),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        killer = Killer(random.Random(seed), coordinators, kills, longest)
        printed = []
        assert demo.stdout is not None
        try:
            for line in demo.stdout:
                printed.append(line)
                killer.read(line)
        finally:
            killer.stop()
            demo.kill()
    return killer.killed, demo.wait(), "".join(printed)


class Killer:
    """Kills coordinators at random moments, after all of them have started."""

    def __init__(
        self, rng: random.Random, coordinators: int, kills: int, longest: float
    ) -> None:
        self.killed = 0
        self._rng = rng
        self._coordinators = coordinators
        self._kills = kills
        self._longest = longest
        self._processes: dict[int, int] = {}
        self._over = threading.Event()
        self._complete = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def read(self, line: str) -> None:
        """Read from a line which process is a coordinator, or that all have ended."""
        found = COORDINATOR.match(line)
        if found is not None:
            self._processes[int(found[1])] = int(found[2])
            if len(self._processes) == self._coordinators:
                self._complete.set()
        elif line.startswith(("notifying", "reconciling")):
            self._over.set()

    def stop(self) -> None:
        self._over.set()
        self._complete.set()
        self._thread.join()

    def _run(self) -> None:
        self._complete.wait()
        while self.killed < self._kills:
            pause = self._rng.uniform(READY_SECONDS, self._longest)
            if self._over.wait(pause):
                return
            number = self._rng.randrange(self._coordinators)
            process = self._processes.pop(number, None)
            # A coordinator that is being restarted is not known yet.
            if process is not None and is_coordinator(process):
                os.kill(process, signal.SIGKILL)
                self.killed += 1


def is_coordinator(process: int) -> bool:
    """Whether a process is a coordinator: its id may be reused by now."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
    return b"order_fulfilment.coordinator" in command


def _run_and_kill(command: list[str], seconds: float) -> int:
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as demo:
        try:
            return demo.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            demo.kill()
            return demo.wait()


def kill_rounds(directory: Path, arguments: argparse.Namespace) -> int:
    """Run demos, each in a new directory, until the number of kills is reached."""
    left, number = arguments.kills, 0
    while left > 0:
        number += 1
        killed, code, output = kill_coordinators(
            directory / f"round-{number}",
            coordinators=arguments.coordinators,
            kills=left,
            limit=arguments.limit,
            seed=arguments.seed + number,
            longest=arguments.longest,
        )
        left -= killed
        print_line(f"round {number}: {killed} killed, exit code {code}")
        if code != 0 or killed == 0:
            print_line(output)
            return code or 1
    print_line(output)
    return 0


def print_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().getrandbits(32)
    )
    parser.add_argument(
        "--longest", type=float, default=4.0, help="maximum of seconds before a kill"
    )
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--coordinators", type=int, default=1)
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="kill-demo-"))
    print_line(f"seed {arguments.seed}, directory {directory}")
    if arguments.coordinators > 1:
        return kill_rounds(directory, arguments)
    code, output = kill_and_reconcile(
        directory,
        kills=arguments.kills,
        limit=arguments.limit,
        seed=arguments.seed,
        longest=arguments.longest,
    )
    print_line(output)
    print_line(f"exit code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
