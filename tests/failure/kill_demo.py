"""Kills a real `eventbraid demo` at random moments, then lets it reconcile.

    python tests/failure/kill_demo.py --kills 20 --limit 2000 [--seed 7]
        [--longest 4] [--directory DIR] [--coordinators 3]

`--limit 69659 --longest 16` is every order, and room to start on a long log.

Each round starts the demo on the same directory and sends SIGKILL at a moment drawn
from the seed: while the store is opened, while orders are under way, while customers
are told, while log and ledgers are compared. The last round is left alone and must end
with exit code 0: every order in one final state, each key in effect at most once.

With `--coordinators 3` the demo is run by so many processes, which share the store: one
of them, drawn from the seed, is killed so many times at moments drawn from it, and is
started again by the demo. When all orders are fulfilled, the next round begins on a
fresh directory beside, until there were so many kills; each round must reconcile.

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
    """Kill the demo so many times, then let it end.

    Returns:
        The exit code of the last run, and all that it printed.
    """
    chance = random.Random(seed)
    command = [
        *(sys.executable, "-m", "eventbraid", "demo", str(directory)),
        *("--limit", str(limit), *options),
    ]
    slowest = longest
    for kill in range(1, kills + 1):
        began = time.monotonic()
        code = _run_and_kill(command, chance.uniform(READY_SECONDS, slowest))
        took = time.monotonic() - began
        say(f"kill {kill} of {kills} after {took:.2f} s: exit code {code}")
        if code == 0:
            # It was through before the signal: kill the next ones earlier.
            slowest = max(2 * READY_SECONDS, min(slowest, took))
        elif code != -signal.SIGKILL:
            return code, "the demo ended by itself, and not well"
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
        How many were killed, the demo's exit code, and all that it printed.
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
                killer.hear(line)
        finally:
            killer.stop()
            demo.kill()
    return killer.killed, demo.wait(), "".join(printed)


class Killer:
    """Kills a coordinator now and then, once all of them are there."""

    def __init__(
        self, chance: random.Random, coordinators: int, kills: int, longest: float
    ) -> None:
        self.killed = 0
        self._chance = chance
        self._coordinators = coordinators
        self._kills = kills
        self._longest = longest
        self._processes: dict[int, int] = {}
        self._over = threading.Event()
        self._complete = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def hear(self, line: str) -> None:
        """Learn from a line of the demo which process coordinates, or that none does."""
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
            pause = self._chance.uniform(READY_SECONDS, self._longest)
            if self._over.wait(pause):
                return
            number = self._chance.randrange(self._coordinators)
            process = self._processes.pop(number, None)
            # One that is being started again is not known yet.
            if process is not None and is_coordinator(process):
                os.kill(process, signal.SIGKILL)
                self.killed += 1


def is_coordinator(process: int) -> bool:
    """Whether a process is what it was: its number may be another's by now."""
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
    """Run demos, each in a directory of its own, until there were kills enough."""
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
        say(f"round {number}: {killed} killed, exit code {code}")
        if code != 0 or killed == 0:
            say(output)
            return code or 1
    say(output)
    return 0


def say(text: str) -> None:
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
        "--longest", type=float, default=4.0, help="seconds before a kill, at most"
    )
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--coordinators", type=int, default=1)
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="kill-demo-"))
    say(f"seed {arguments.seed}, directory {directory}")
    if arguments.coordinators > 1:
        return kill_rounds(directory, arguments)
    code, output = kill_and_reconcile(
        directory,
        kills=arguments.kills,
        limit=arguments.limit,
        seed=arguments.seed,
        longest=arguments.longest,
    )
    say(output)
    say(f"exit code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
