"""The command line: what it prints, how it ends, and that it never shows a traceback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

import eventbraid as eb
from eventbraid.cli import run
from eventbraid.cli._exit import Exit, explain


@pytest.fixture(scope="module")
def demo_directory(tmp_path_factory):
    """A small demo that has run; order 1 is completed, some others are compensated."""
    directory = tmp_path_factory.mktemp("cli") / "demo"
    code = run(["demo", str(directory), "--limit", "60", "--late", "0"])
    assert code == Exit.FINE
    return directory


def test_a_demo_reports_and_reconciles(tmp_path, capfd):
    code = run(["demo", str(tmp_path / "d"), "--limit", "30", "--late", "0"])
    out, err = capfd.readouterr()
    assert code == Exit.FINE, err
    assert "log and ledgers agree" in out
    assert "30 orders in" in out
    assert f"saga show {tmp_path}/d saga-cdnow-00001" in out
    assert re.search(r"captured\s+\$", out)


def test_a_second_run_says_that_nothing_was_done_twice(demo_directory, capfd):
    assert run(["demo", str(demo_directory), "--limit", "60"]) == Exit.FINE
    assert "nothing was done twice" in capfd.readouterr().out


def test_the_self_test_is_found_out_with_exit_code_1(tmp_path, capfd):
    code = run(["demo", str(tmp_path), "--limit", "60", "--self-test-double-charge"])
    out = capfd.readouterr().out
    assert code == Exit.OFF
    assert "DO NOT AGREE" in out
    assert "captured 2 times" in out


def test_without_a_directory_a_new_one_is_made_and_named(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert run(["demo", "--limit", "3", "--late", "0"]) == Exit.FINE
    (made,) = tmp_path.iterdir()
    assert str(made) in capfd.readouterr().out


def test_a_saga_is_shown_by_its_id(demo_directory, capfd):
    store = str(demo_directory)
    assert run(["saga", "show", "saga-cdnow-00001", "--store", store]) == Exit.FINE
    out = capfd.readouterr().out
    assert "saga-cdnow-00001" in out
    assert "dispatch shipment" in out
    assert "saga completed" in out


@pytest.mark.parametrize("identifier", ["77", "order-1", "order-cdnow-00001"])
def test_no_id_is_taken_for_one_of_the_demo(tmp_path, identifier, capfd):
    """Any string may be a saga's id; only the demo derives them from orders."""
    store = str(tmp_path / "s")
    with eb.open(store) as opened:
        opened.append(_stuck_saga(identifier))
    assert run(["saga", "show", identifier, "--store", store]) == Exit.OFF
    assert capfd.readouterr().out.startswith(f"{identifier}: ")
    missing = f"{identifier}9"
    assert run(["saga", "show", missing, "--store", store]) == Exit.USAGE
    err = capfd.readouterr().err
    assert repr(missing) in err
    assert "eventbraid saga list" in err


def test_the_store_may_be_named_itself_or_by_the_environment(
    demo_directory, monkeypatch, capfd
):
    monkeypatch.setenv("EVENTBRAID_STORE", str(demo_directory / "shop.braid"))
    assert run(["saga", "show", "saga-cdnow-00001"]) == Exit.FINE
    assert "saga completed" in capfd.readouterr().out


def test_a_compensated_order_says_why_and_what_was_compensated(demo_directory, capfd):
    store = str(demo_directory)
    run(["saga", "list", "--store", store, "--status", "compensated"])
    compensated = re.search(r"(saga-\S+)  compensated", capfd.readouterr().out)
    assert compensated
    assert run(["saga", "show", compensated[1], "--store", store]) == Exit.FINE
    out = capfd.readouterr().out
    assert "because of" in out
    assert "compensation started" in out


def test_sagas_are_counted_and_some_named(demo_directory, capfd):
    assert run(["saga", "list", "--store", str(demo_directory), "--limit", "2"]) == 0
    out = capfd.readouterr().out
    assert "completed" in out
    assert "and 58 more" in out


def test_without_stuck_sagas_stuck_is_fine(demo_directory, capfd):
    assert run(["saga", "stuck", "--store", str(demo_directory)]) == Exit.FINE
    assert "no saga is stuck" in capfd.readouterr().out


def test_a_stuck_saga_is_named_with_exit_code_1(tmp_path, capfd):
    with eb.open(tmp_path / "s") as store:
        store.append(_stuck_saga("saga-1"))
    assert run(["saga", "stuck", "--store", str(tmp_path / "s")]) == Exit.OFF
    assert "saga-1  refunds: no refunds" in capfd.readouterr().out
    assert run(["saga", "show", "saga-1", "--store", str(tmp_path / "s")]) == Exit.OFF


def test_the_traceback_of_a_blocked_saga_is_shown_as_plain_text(tmp_path, capfd):
    from eventbraid.saga.machine._events import DefectRecorded

    *records, _ = _stuck_saga("saga-1")
    trace = "Traceback:\n  File [bold]x[/]\nTypeError: \x1b[31moops\n"
    blocked = DefectRecorded("pay", "compensation", "TypeError", "oops", trace)
    with eb.open(tmp_path / "s") as store:
        store.append([*records[:6], eb.new_event("saga-1", blocked)])
    assert run(["saga", "show", "saga-1", "--store", str(tmp_path / "s")]) == Exit.FINE
    out = capfd.readouterr().out
    assert "compensation raised TypeError: oops" in out
    assert "\n  File [bold]x[/]\n" in out
    assert "\x1b[31m" not in out


def _stuck_saga(saga_id):
    """The records of a saga whose compensation failed for good, written by hand."""
    from eventbraid.saga.definition._graph import NodeShape
    from eventbraid.saga.machine._events import (
        CompensationFailed,
        CompensationStarted,
        SagaStarted,
        SagaStuck,
        StepFailed,
        StepStarted,
        StepSucceeded,
    )

    graph = (
        NodeShape("pay", "compensatable", False, True, False),
        NodeShape("ship", "compensatable", False, True, False),
    )
    records = [
        SagaStarted("refunds", 1, "0" * 16, graph, eb_raw(b"{}")),
        StepStarted("pay"),
        StepSucceeded("pay"),
        StepStarted("ship"),
        StepFailed("ship", "Unavailable", "no carrier"),
        CompensationStarted("failed", ("pay",), "ship", "no carrier"),
        CompensationFailed("pay", "Refused", "no refunds"),
        SagaStuck("pay", "no refunds"),
    ]
    return [eb.new_event(saga_id, record) for record in records]


def eb_raw(data):
    import msgspec

    return msgspec.Raw(data)


MISUSE = {
    "no command": ([], "Usage"),
    "an unknown command": (["fulfil"], "No such command"),
    "no orders": (["demo", "--limit", "0"], "range"),
    "more orders than there are": (["demo", "--limit", "69660"], "range"),
    "a limit that is no number": (["demo", "--limit", "many"], "many"),
    "a rate above one": (["demo", "--declined", "3"], "range"),
    "a rate that is no number": (["demo", "--late", "often"], "often"),
    "nothing in flight": (["demo", "--in-flight", "0"], "range"),
    "no stock": (["demo", "--stock", "0"], "range"),
    "a file for a directory": (["demo", __file__], "is a file"),
    "no store": (["saga", "show", "1"], "--store"),
    "a store that is not there": (
        ["saga", "show", "1", "--store", "/nowhere/at/all"],
        "NotAStore",
    ),
    "too short a bench": (["bench", "--seconds", "1"], "range"),
    "a bench of no row": (["bench", "--only", "nothing"], "nothing"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_is_explained(case, capfd):
    arguments, said = MISUSE[case]
    assert run(arguments) == Exit.USAGE
    out, err = capfd.readouterr()
    assert said in out + err
    assert "Traceback" not in out + err


def test_an_unknown_saga_is_explained(demo_directory, capfd):
    code = run(["saga", "show", "saga-9", "--store", str(demo_directory)])
    assert code == Exit.USAGE
    assert "saga-9" in capfd.readouterr().err


def test_a_directory_that_is_no_store_is_explained(tmp_path, capfd):
    (tmp_path / "letter.txt").write_text("dear shop")
    assert run(["saga", "list", "--store", str(tmp_path)]) == Exit.USAGE
    assert "NotAStore" in capfd.readouterr().err


def test_a_demo_with_another_seed_is_explained(demo_directory, capfd):
    code = run(["demo", str(demo_directory), "--limit", "60", "--seed", "9"])
    assert code == Exit.USAGE
    assert "--seed 1" in capfd.readouterr().err


def test_a_store_in_use_is_explained(demo_directory, capfd):
    with eb.open(demo_directory / "shop.braid"):
        code = run(["demo", str(demo_directory), "--limit", "60"])
    assert code == Exit.STORE
    assert "in use" in capfd.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_explained(tmp_path, capfd):
    tmp_path.chmod(0o500)
    assert run(["demo", str(tmp_path / "d"), "--limit", "1"]) == Exit.STORE
    assert "Permission" in capfd.readouterr().err


def test_a_demo_refuses_a_store_that_it_did_not_create(tmp_path, capfd):
    with eb.open(tmp_path) as store:
        store.append([("account-alice", "account.opened", b"{}")])
    assert run(["demo", str(tmp_path), "--limit", "1"]) == Exit.USAGE
    err = capfd.readouterr().err
    assert str(tmp_path) in err
    assert "give a directory of its own, or none" in err


def test_a_damaged_ledger_is_explained(demo_directory, tmp_path, capfd):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(demo_directory, copy)
    for ledger in (copy / "ledgers").glob("payments.sqlite*"):
        ledger.unlink()
    (copy / "ledgers" / "payments.sqlite").write_bytes(b"no database " * 1000)
    assert run(["demo", str(copy), "--limit", "60"]) == Exit.STORE
    assert "not a database" in capfd.readouterr().err


def test_what_nobody_expected_is_told_as_a_bug(capfd, monkeypatch):
    monkeypatch.delenv("EVENTBRAID_DEBUG", raising=False)
    group = ExceptionGroup("several", [ValueError("odd"), TypeError("odder")])
    assert explain(group) == Exit.BUG
    err = capfd.readouterr().err
    assert "ValueError: odd" in err
    assert "EVENTBRAID_DEBUG" in err
    assert "Traceback" not in err


def test_an_interruption_among_other_errors_is_an_interruption(capfd):
    group = BaseExceptionGroup("several", [ValueError("odd"), KeyboardInterrupt()])
    assert explain(group) == Exit.INTERRUPTED


def test_version(capfd):
    assert run(["--version"]) == Exit.FINE
    assert capfd.readouterr().out.startswith("eventbraid ")


@pytest.mark.parametrize(
    "command", [["--help"], ["demo", "-h"], ["saga", "show", "-h"], ["bench", "-h"]]
)
def test_help_names_the_exit_codes_or_options(command, capfd):
    assert run(command) == Exit.FINE
    assert "Options" in capfd.readouterr().out


# --- as a process


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "eventbraid", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path):
    directory = tmp_path / "demo"
    with start("demo", str(directory), "--limit", "20000") as demo:
        for line in demo.stdout:
            if line.startswith("fulfilling orders"):
                break
        time.sleep(0.5)
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=60)
    assert demo.returncode == Exit.INTERRUPTED, err
    assert f"eventbraid demo {directory} --limit 20000" in err
    assert "Traceback" not in err
    with start("demo", str(directory), "--limit", "200") as again:
        out, err = again.communicate(timeout=120)
    assert again.returncode == Exit.FINE, out + err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_a_bar_grows(tmp_path):
    import pty

    ours, theirs = pty.openpty()
    command = ["demo", str(tmp_path / "demo"), "--limit", "40", "--late", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "eventbraid", *command],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    ) as demo:
        os.close(theirs)
        shown = b""
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            try:
                while part := terminal.read(4096):
                    shown += part
            except OSError:
                # How Linux says that the other side of a terminal is closed.
                assert shown
        err = demo.stderr.read()
    assert demo.returncode == Exit.FINE, err
    assert b"40/40" in shown
    assert b"log and ledgers agree" in shown


def test_a_bench_shows_the_stated_numbers_and_the_targets_beside_ours(tmp_path):
    with start("bench", str(tmp_path), "--seconds", "2") as bench:
        out, err = bench.communicate(timeout=200)
    assert bench.returncode == Exit.FINE, err
    for figure in ("86/s", "25-50/s", "9,000+/s", "< 100 ms", "fdatasync"):
        assert figure in out
    for target in ("at most 1.6 x", "at least 4 x", "at most 5 ms", "at most 250 MiB"):
        assert target in out
    assert list(tmp_path.iterdir()) == []


def test_a_bench_of_some_rows_in_json(tmp_path, capfd):
    chosen = ["--only", "append", "--only", "open"]
    assert run(["bench", str(tmp_path), "--seconds", "2", "--json", *chosen]) == 0
    out, err = capfd.readouterr()
    append, opening = map(json.loads, out.splitlines())
    assert append["row"] == "append"
    [held] = append["targets"]
    assert held["met"] == (held["value"] <= held["at_most"])
    assert opening["row"] == "open"
    assert [target["unit"] for target in opening["targets"]] == ["s", "s", "MiB"]
    assert all(target["value"] > 0 for target in opening["targets"])
    assert err.splitlines() == ["measuring one writer ...", "measuring open ..."]


def test_the_rows_of_a_bench_are_those_that_its_options_name():
    from eventbraid.cli.bench import _command, _rows

    assert tuple(row.key for row in _rows.ROWS) == _command._KEYS


def test_a_reader_who_leaves_is_no_error(demo_directory):
    with start(
        "saga", "list", "--store", str(demo_directory), "--limit", "60"
    ) as listing:
        listing.stdout.close()
        listing.stdout = None
        _, err = listing.communicate(timeout=60)
    assert "Traceback" not in err
    assert listing.returncode in {Exit.FINE, Exit.PIPE}
