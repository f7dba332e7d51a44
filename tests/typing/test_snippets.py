"""Type checkers refuse what would fail at run time, and nothing else.

Every file in `accepted/` must pass mypy --strict and strict pyright; in `rejected/`
both must complain about each line that is marked with `# refused` and about no other.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ACCEPTED = sorted((HERE / "accepted").glob("*.py"))
REJECTED = sorted((HERE / "rejected").glob("*.py"))

pytestmark = pytest.mark.timeout(600)


def complaints_of_mypy(repository: Path, files: list[Path]) -> dict[Path, set[int]]:
    command = [sys.executable, "-m", "mypy", "--no-error-summary", *map(str, files)]
    done = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found: dict[Path, set[int]] = {file: set() for file in files}
    for path, line in re.findall(r"^(.+?):(\d+): error: ", done.stdout, re.MULTILINE):
        found.setdefault(repository / path, set()).add(int(line))
    return found


def complaints_of_pyright(repository: Path, files: list[Path]) -> dict[Path, set[int]]:
    command = [sys.executable, "-m", "pyright", "--outputjson"]
    command += ["--pythonpath", sys.executable, *map(str, files)]
    done = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found: dict[Path, set[int]] = {file: set() for file in files}
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        if one["severity"] == "error":
            first = one["range"]["start"]["line"] + 1
            found.setdefault(Path(one["file"]), set()).add(first)
    return found


@pytest.fixture(
    scope="module",
    params=[complaints_of_mypy, complaints_of_pyright],
    ids=["mypy", "pyright"],
)
def complaints(request):
    """What one checker says of all files, by file and line."""
    repository = HERE.parent.parent
    return request.param(repository, ACCEPTED + REJECTED)


@pytest.mark.parametrize("file", ACCEPTED, ids=lambda file: file.stem)
def test_right_uses_are_accepted(complaints, file):
    assert complaints[file] == set()


@pytest.mark.parametrize("file", REJECTED, ids=lambda file: file.stem)
def test_wrong_uses_are_refused_and_nothing_else(complaints, file):
    lines = file.read_text().splitlines()
    wrong = {n for n, line in enumerate(lines, 1) if "# refused" in line}
    assert wrong, "no line is marked"
    assert complaints[file] == wrong


def test_nothing_else_is_wrong(complaints):
    """An error in the package itself would hide behind the snippets."""
    assert {file for file, lines in complaints.items() if lines} <= set(REJECTED)
