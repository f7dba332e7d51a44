"""Each page of docs/how-to runs from top to bottom, as a reader would follow it.

A Python block with a title is a file, and any other Python block is a program. A text
block shows what the program before it prints. A file of tests is executed by pytest. A
block that requires a package is left out where that package isn't installed. The
commands of a console block are executed, and must print what the page shows below them.
The entry of a hook is executed, too.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

FENCE = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?'
    r'(?: requires="(?P<package>\w+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md"))

# An environment that was made before the entry point was declared needs the option.
IS_INSTALLED = any(
    one.value == "eventbraid_pytest" for one in entry_points(group="pytest11")
)
PLUGIN = () if IS_INSTALLED else ("-p", "eventbraid_pytest")

pytestmark = pytest.mark.timeout(280)


def blocks_of(text: str) -> list[re.Match[str]]:
    """Return the blocks of a page whose packages are installed."""
    return [
        block
        for block in FENCE.finditer(text)
        if not block["package"] or importlib.util.find_spec(block["package"])
    ]


def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}",
        # A module is written again within a second, which its cache overlooks.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        shell=isinstance(command, str),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def run_console(text: str, folder: Path) -> None:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        assert run(command, folder).stdout == expected, command


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / ".bin").mkdir()
    script = tmp_path / ".bin" / "eventbraid"
    script.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m eventbraid "$@"\n'
    )
    script.chmod(0o755)
    return tmp_path


def test_there_are_how_tos():
    assert PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_how_to_runs_as_written(page, folder):
    text = page.read_text()
    printed = ""
    for block in blocks_of(text):
        line = text.count("\n", 0, block.start()) + 1
        match block["language"], block["title"]:
            case "python", None:
                (folder / "page.py").write_text(block["text"])
                done = run([sys.executable, "page.py"], folder)
                assert done.returncode == 0, f"{page.name}, line {line}: {done.stdout}"
                printed = done.stdout
            case "text", None:
                assert block["text"] == printed, f"{page.name}, line {line}"
            case "python", title:
                (folder / title).parent.mkdir(parents=True, exist_ok=True)
                (folder / title).write_text(block["text"])
                if title.startswith("test_"):
                    done = run([sys.executable, "-m", "pytest", *PLUGIN, title], folder)
                    assert done.returncode == 0, f"{page.name}: {done.stdout}"
            case "console", None:
                run_console(block["text"], folder)
            case "yaml", None:
                for entry in re.findall(r"entry: (.+)", block["text"]):
                    done = run(entry, folder)
                    assert done.returncode == 0, f"{entry}: {done.stdout}"
            case other:
                raise AssertionError(
                    f"{page.name}, line {line}: {other} isn't executed"
                )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_how_to_satisfies_the_type_checker(page, folder):
    blocks = [one for one in blocks_of(page.read_text()) if one["language"] == "python"]
    files = [block for block in blocks if block["title"]]
    for number, block in enumerate(blocks):
        name = block["title"] or f"page_{number}.py"
        # Of a file that the page changes, the last form is checked.
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(block["text"])
    names = {block["title"] for block in files}
    last = max((blocks.index(block) for block in files), default=-1)
    programs = [f"page_{number}.py" for number in range(last + 1, len(blocks))]
    mypy = [sys.executable, "-m", "mypy", "--strict", "--explicit-package-bases"]
    done = run([*mypy, *sorted(names), *programs], folder)
    assert done.returncode == 0, done.stdout
