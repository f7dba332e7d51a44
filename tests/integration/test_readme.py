"""The code in README.md runs, and its commands are those that the CI runs.

The first thing that a newcomer copies must not be the first thing that fails.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int


def blocks_of(path: Path, language: str) -> list[Block]:
    text = path.read_text()
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 2)
        for match in FENCE.finditer(text)
        if match[1] == language
    ]


def commands_of(path: Path) -> list[str]:
    return [
        line
        for block in blocks_of(path, "bash")
        for line in block.text.splitlines()
        if line and not line.startswith("#")
    ]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """What a fresh clone holds: the files that git knows or would take."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    target = tmp_path_factory.mktemp("checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def test_python_blocks_run_as_written_and_a_second_time(tmp_path):
    blocks = blocks_of(ROOT / "README.md", "python")
    assert blocks
    (tmp_path / "readme.py").write_text("\n".join(block.text for block in blocks))
    for run in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "readme.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=140,
            check=False,
        )
        assert done.returncode == 0, f"{run} run: {done.stderr}"


def test_python_blocks_satisfy_the_type_checker(tmp_path):
    source = "\n".join(b.text for b in blocks_of(ROOT / "README.md", "python"))
    (tmp_path / "readme.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "readme.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_commands_are_all_that_is_needed():
    assert len(commands_of(ROOT / "README.md")[:2]) == 2


def test_the_continuous_integration_runs_the_second_command():
    second = commands_of(ROOT / "README.md")[1]
    script = (ROOT / ".ci" / "run").read_text()
    assert script.rstrip().endswith(second)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert os.access(ROOT / shlex.split(second)[0], os.X_OK)


@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo")
def test_the_first_command_builds_installs_and_runs_the_demo(checkout):
    first = commands_of(ROOT / "README.md")[0]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}
    }
    # Crates that are built already stay built; the package itself is compiled anew.
    environment.setdefault("CARGO_TARGET_DIR", str(ROOT / "target"))
    done = subprocess.run(
        first,
        shell=True,
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")
    )]
)  # fmt: skip
def test_links_lead_somewhere(page):
    source = ROOT / page
    targets = [t for t in LINK.findall(source.read_text()) if "://" not in t]
    missing = [t for t in targets if not (source.parent / t).exists()]
    assert missing == []


def test_every_decision_is_in_the_list():
    folder = ROOT / "docs" / "decisions"
    listed = set(LINK.findall((folder / "README.md").read_text()))
    assert {path.name for path in folder.glob("[0-9]*.md")} <= listed
