"""The library works without the extras, and the command line reports a missing one.

A dependency that is declared for the command line alone is missing in every program
that only imports the library, so nothing there may import it by accident.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

NEEDED = {"anyio", "msgspec", "orjson", "typing-extensions"}
BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None

sys.meta_path.insert(0, Block())
"""

USE_ALL = """
import eventbraid as eb

for name in eb.__all__:
    getattr(eb, name)
with eb.open("memory:") as store:
    assert store.append([("lamp-1", "lamp.lit", b"{}")]).last_position == 1
"""


@pytest.fixture
def without(tmp_path):
    """Return the environment of a Python in which packages can't be imported."""

    def environment(*packages: str) -> dict[str, str]:
        code = BLOCK.format(blocked=frozenset(packages))
        (tmp_path / "sitecustomize.py").write_text(code)
        return os.environ | {"PYTHONPATH": str(tmp_path)}

    return environment


def run(*command: str | Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_-]", one, maxsplit=1)[0] for one in requirements}


@pytest.fixture
def project(repository) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("missing", ["click", "rich"])
@pytest.mark.parametrize(
    "command",
    [
        [Path(sys.executable).with_name("eventbraid")],
        [sys.executable, "-m", "eventbraid"],
    ],
    ids=["console script", "module"],
)
@pytest.mark.parametrize("arguments", [["--help"], ["stats", "a.braid"], []])
def test_without_the_extra_one_line_names_what_to_install(
    without, missing, command, arguments
):
    if not Path(command[0]).exists():
        pytest.skip("needs the console script: install the package")
    done = run(*command, *arguments, env=without(missing))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"eventbraid: the command line needs {missing}, which is not installed; "
        "install it with: pip install 'eventbraid[cli]'\n"
    )


def test_a_package_that_is_there_and_broken_is_not_reported_as_missing(without):
    done = run(sys.executable, "-m", "eventbraid", env=without("gettext", "shutil"))
    assert "pip install" not in done.stderr
    assert "ModuleNotFoundError" in done.stderr


def test_the_library_works_with_its_dependencies_alone(without, project):
    extras = project["optional-dependencies"].values()
    optional = set().union(*map(names, extras)) - NEEDED
    assert {"click", "rich", "uvicorn", "pydantic"} <= optional
    done = run(sys.executable, "-c", USE_ALL, env=without(*optional))
    assert done.returncode == 0, done.stderr


def test_what_only_the_command_line_needs_is_an_extra(project):
    command_line = names(project["optional-dependencies"]["cli"])
    assert command_line == {"click", "rich"}
    assert names(project["dependencies"]) == NEEDED


def test_the_first_command_of_the_readme_installs_the_extra(repository):
    readme = (repository / "README.md").read_text()
    first = re.search(r"^```bash\n(.*)$", readme, re.MULTILINE)[1]
    assert "pip install '.[cli]'" in first
