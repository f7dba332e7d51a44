"""Print a table of covered lines by file, from the output of `cov show`.

`cov show` prints a line of source as `NUMBER|COUNT|TEXT`, without a count where there
is no code, after the path of its file. With the environment variable MISSED, the
numbers of the lines that were never executed follow below the table.
"""

# ruff: noqa: INP001 - a script next to its caller, not a package

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LINE = re.compile(r" *(\d+)\| *([0-9.]+[kMGTP]?)\|(.*)")
_FILE = re.compile(r".*/rust/engine/src/(.*\.rs)$")
_TESTS = re.compile(r" *\d+\| *[^|]*\|#\[cfg\(test\)\]")


def counts(lines: Iterable[str]) -> dict[str, dict[int, bool]]:
    """Return for each file of the engine whether each line of code was executed."""
    found: defaultdict[str, dict[int, bool]] = defaultdict(dict)
    file: str | None = None
    for line in lines:
        if path := _FILE.match(line.rstrip()):
            file = None if path[1].endswith("tests.rs") else path[1]
        elif not re.match(r" *\d+\|", line):
            file = None if line.strip() else file
        elif _TESTS.match(line):
            file = None  # The tests at the end of a file execute themselves.
        elif file and (code := _LINE.match(line)):
            number, count = int(code[1]), code[2] != "0"
            found[file][number] = found[file].get(number, False) or count
    return dict(found)


def table(found: dict[str, dict[int, bool]]) -> Iterable[str]:
    """Iterate over the lines of the table."""
    yield "| file | lines | executed | |"
    yield "|---|---|---|---|"
    for file, lines in sorted(found.items()):
        yield row(f"`{file}`", lines.values())
    yield row("**all**", [hit for lines in found.values() for hit in lines.values()])


def row(name: str, hits: Iterable[bool]) -> str:
    """Return one line of the table."""
    reached = list(hits)
    share = 100 * sum(reached) / max(len(reached), 1)
    return f"| {name} | {len(reached)} | {sum(reached)} | {share:.1f} % |"


def missed(found: dict[str, dict[int, bool]]) -> Iterable[str]:
    """Iterate over the files, each with its lines that were not executed."""
    for file, lines in sorted(found.items()):
        numbers = [str(number) for number, hit in sorted(lines.items()) if not hit]
        if numbers:
            yield f"{file}: {', '.join(numbers)}"


def main() -> None:
    """Read the output of `cov show` and print the table."""
    found = counts(sys.stdin)
    lines = [*table(found), *(missed(found) if os.environ.get("MISSED") else ())]
    sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
