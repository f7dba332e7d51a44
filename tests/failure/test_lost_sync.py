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
COMMANDS = Path(__file__).with_name("lost_command_victim.py")
STRACE = shutil.which("strace") or "strace"


@pytest.fixture(scope="module", params=FACES)
def results(request, tmp_path_factory):
    """The results of a program whose fifth commit could not be synced."""
    return results_of(VICTIM, request.param, tmp_path_factory.mktemp("lost"), when=5)


@pytest.fixture(scope="module", params=FACES)
def results_of_commands(request, tmp_path_factory):
    """The results of a program that executes commands, and loses its sync."""
    folder = tmp_path_factory.mktemp("lost")
    # By the general way, with a key, and by the short one.
    return [
        results_of(COMMANDS, request.param, folder / str(when), when=when)
        for when in (5, 6)
    ]


def results_of(program, face, folder, *, when):
    if reason := why_not():
        pytest.skip(reason)
    store = folder / "store"
    store.parent.mkdir(exist_ok=True)
    with eb.open(store) as created:
        created.append([("a", "first", b"")])
    segment = store / "log" / "0000000001.hot"
    fault = f"inject=fdatasync:error=EIO:when={when}"
    traced = [STRACE, "-f", "-qq", "-o", "/dev/null", "-P", segment, "-e", fault]
    done = subprocess.run(
        [*traced, sys.executable, program, store, face],
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


def test_no_state_has_an_event_whose_sync_failed(results_of_commands):
    """Neither the cached state, nor one that a later session folds."""
    for results in results_of_commands:
        count = results["acknowledged"]
        assert results["first"] == "OutcomeUnknown"
        assert count > 2
        assert results["loaded"] == results["loaded_again"] == [count, count]
        assert results["reopened"] == [count, count]


def test_a_command_on_a_cached_state_of_a_poisoned_store_is_refused(
    results_of_commands,
):
    for results in results_of_commands:
        assert results["then"] == ["StorePoisoned"] * 3
        assert results["closed"] == "StorePoisoned"


def test_a_command_whose_sync_failed_is_executed_once_after_reopening(
    results_of_commands,
):
    for results in results_of_commands:
        assert results["again"] == [False, True]
        assert results["seen"] == [*range(results["acknowledged"] + 1)]
        assert results["verified"] == results["acknowledged"] + 2
