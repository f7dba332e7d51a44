"""A failed sync stops the store: unknown, then poisoned, and the next open continues.

The hazard: a program that repeats a failed `fdatasync`, although a later success proves
nothing about the bytes that the kernel has dropped. Here strace makes one `fdatasync` of a
real file fail; where it may not trace, the tests are skipped.
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
def results(request, tmp_path_factory):
    """The results of a program whose fifth commit could not be synced."""
    if reason := why_not():
        pytest.skip(reason)
    store = tmp_path_factory.mktemp("lost") / "store"
    with eb.open(store) as created:
        created.append([("a", "first", b"")])
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


def test_an_append_whose_sync_failed_is_unknown_and_its_error_names_the_remedy(results):
    first = results["first"]
    assert first["type"] == "OutcomeUnknown"
    assert first["key"] == f"k-{results['acknowledged']}"
    assert first["ids"] == results["ids"]
    assert f"with the same key {first['key']!r}" in first["text"]


def test_later_appends_are_refused_as_poisoned(results):
    assert results["then"] == ["StorePoisoned"] * 3
    assert results["poisoned"] is True
    assert results["closed"] == "StorePoisoned"


def test_reads_continue_and_return_durable_events(results):
    assert results["head"] == 1 + results["acknowledged"]
    assert results["read"] == results["head"]


def test_the_next_open_continues_after_the_acknowledged_commits(results):
    assert results["reopened"] == 1 + results["acknowledged"]
    assert results["again"] == {"replayed": False, "position": results["reopened"] + 1}
    assert results["verified"] == results["reopened"] + 1
