"""The contract suite can fail: a store that breaks a rule turns the rule's test red.

A suite that outsiders trust is worth what it finds.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.broken_backends import BROKEN

BACKENDS = Path(__file__).parents[1] / "contract" / "broken_backends.py"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What pytest says of all broken stores, each under the one test that must see it."""
    pairs = [f"({kind.__name__} and {test})" for kind, test in BROKEN.items()]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", BACKENDS, "-k", " or ".join(pairs)),
            *("-q", f"--basetemp={tmp_path_factory.mktemp('broken') / 'base'}"),
            *("-p", "no:cacheprovider", "--timeout=60"),
        ],
        cwd=BACKENDS.parents[2],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_rule_turns_its_test_red(kind, report):
    red = [line for line in report.splitlines() if line.startswith("FAILED")]
    assert any(f"::{BROKEN[kind]}[{kind.__name__}" in line for line in red), report
