"""The cost of one commit of a process alone: instructions and system calls.

    cargo build --release -p eventbraid-engine --example lone_writer
    python benches/cost_of_a_commit.py target/release/examples/lone_writer [OTHER ...]
        [--commits 2000] [--events 1] [--threads] [--directory DIR]

Each program is run under callgrind and under strace, without commits and with many; the
difference, divided by the number of commits, is the cost of one commit. It does not
depend on the load of the machine or of its disk, so two builds can be compared on any
machine. Several programs are all compared with the first.

With `--threads` the engine uses its own threads, as it does by default: the sums then
vary slightly from run to run. Needs valgrind and strace.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

SUMMARY = re.compile(r"^\S+ Collected : (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """The cost of one commit."""

    instructions: float
    calls: dict[str, float]

    @property
    def all_calls(self) -> float:
        return sum(self.calls.values())


@dataclass(frozen=True)
class Workload:
    commits: int
    events: int
    threads: bool
    directory: Path | None

    def cost(self, program: Path) -> Cost:
        idle, busy = self._instructions(program, 0), self._instructions(program)
        idle_calls, calls = self._calls(program, 0), self._calls(program)
        names = sorted(calls.keys() | idle_calls.keys())
        per_commit = {n: (calls[n] - idle_calls[n]) / self.commits for n in names}
        return Cost((busy - idle) / self.commits, per_commit)

    def _instructions(self, program: Path, commits: int | None = None) -> int:
        tool = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
        output = self._run(program, commits, tool)
        found = SUMMARY.search(output)
        if found is None:
            message = f"callgrind reported no count of instructions: {output}"
            raise RuntimeError(message)
        return int(found[1])

    def _calls(self, program: Path, commits: int | None = None) -> Counter[str]:
        with tempfile.NamedTemporaryFile(mode="r") as table:
            self._run(program, commits, ("strace", "-f", "-c", "-o", table.name))
            rows = [line.split() for line in table.read().splitlines()]
        return Counter(
            {
                row[-1]: int(row[3])
                for row in rows
                if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"
            }
        )

    def _run(self, program: Path, commits: int | None, tool: tuple[str, ...]) -> str:
        wanted = self.commits if commits is None else commits
        with tempfile.TemporaryDirectory(dir=self.directory) as made:
            arguments = [f"{made}/store", str(wanted), str(self.events)]
            if not self.threads:
                arguments.append("--no-threads")
            done = subprocess.run(
                [*tool, str(program.resolve()), *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            message = f"{program} failed under {tool[0]}: {done.stderr}"
            raise RuntimeError(message)
        return done.stderr


def lines_of(program: Path, cost: Cost, first: Cost) -> list[str]:
    change = 100 * (cost.instructions / first.instructions - 1)
    more = cost.all_calls - first.all_calls
    calls = ", ".join(
        f"{name} {count:.3f}" for name, count in cost.calls.items() if abs(count) > 5e-4
    )
    return [
        f"{program}",
        f"    {cost.instructions:,.0f} instructions a commit ({change:+.2f} %)",
        f"    {cost.all_calls:.3f} system calls a commit ({more:+.3f}): {calls}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", type=Path, nargs="+")
    parser.add_argument("--commits", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=1, help="events a commit")
    parser.add_argument("--threads", action="store_true")
    parser.add_argument("--directory", type=Path, help="where stores are created")
    given = parser.parse_args()
    workload = Workload(given.commits, given.events, given.threads, given.directory)
    costs = [workload.cost(program) for program in given.programs]
    for program, cost in zip(given.programs, costs, strict=True):
        print("\n".join(lines_of(program, cost, costs[0])))


if __name__ == "__main__":
    main()
