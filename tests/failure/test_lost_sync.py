"""A sync that fails stops the store: unknown, then poisoned, and the next opening goes on.

The hazard: a program that takes a failed `fdatasync` for a passing trouble and tries again,
as if the next one could speak for what the kernel has dropped. Here strace makes one
`fdatasync` of a real file fail; where it may not trace, the tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import eventbraid as eb
from tests.failure.test_engine_strace import why_not

FACES = ("sync", "async")
VICTIM = Path(__file__).with_name("lost_sync_victim.py")
STRACE = shutil.which("strace") or "strace"


@pytest.fixture(scope="module", params=FACES)
def told(request, tmp_path_factory):
    """What a program was told whose fifth commit could not be synced."""
    if reason := why_not():
        pytest.skip(reason)
    store = tmp_path_factory.mktemp("lost") / "store"
    with eb.open(store) as made:
        made.append([("a", "first", b"")])
    segment = store / "log" / "0000000001.hot"
    fault = "inject=fdatasync:error=EIO:when=5"
    traced = [STRACE, "-f", "-qq", "-o", "/dev/null", "-P", segment, "-e", fault]
    done = subprocess.run(
        [*traced, sys.executable, VICTIM, store, request.param],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_append_whose_sync_failed_is_unknown_and_says_how_to_find_out(told):
    first = told["first"]
    assert first["type"] == "OutcomeUnknown"
    assert first["key"] == f"k-{told['acknowledged']}"
    assert first["ids"] == told["ids"]
    assert f"with the same key {first['key']!r}" in first["text"]


def test_what_comes_after_is_refused_as_poisoned(told):
    assert told["then"] == ["StorePoisoned"] * 3
    assert told["poisoned"] is True
    assert told["closed"] == "StorePoisoned"


def test_reads_go_on_and_show_what_was_durable(told):
    assert told["head"] == 1 + told["acknowledged"]
    assert told["read"] == told["head"]


def test_the_next_opening_goes_on_after_what_was_acknowledged(told):
    assert told["reopened"] == 1 + told["acknowledged"]
    assert told["again"] == {"replayed": False, "position": told["reopened"] + 1}
    assert told["verified"] == told["reopened"] + 1
