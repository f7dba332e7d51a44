"""Kills a real `eventbraid demo` at random moments, then lets it reconcile.

    python tests/failure/kill_demo.py --kills 20 --limit 2000 [--seed 7]
        [--longest 4] [--directory DIR]

`--limit 69659 --longest 16` is every order, and room to start on a long log.

Each round starts the demo on the same directory and sends SIGKILL at a moment drawn
from the seed: while the store is opened, while orders are under way, while customers
are told, while log and ledgers are compared. The last round is left alone and must end
with exit code 0: every order in one final state, each key in effect at most once.

SIGKILL says nothing about power loss: the page cache survives it.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

READY_SECONDS = 0.2


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


def _run_and_kill(command: list[str], seconds: float) -> int:
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as demo:
        try:
            return demo.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            demo.kill()
            return demo.wait()


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
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="kill-demo-"))
    say(f"seed {arguments.seed}, directory {directory}")
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
