"""`verify`: 0 for a whole store, 1 for a damaged one with the place and the remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import eventbraid as eb
from eventbraid.cli import run
from eventbraid.cli._exit import Exit
from tests.command_line import json_lines, on_a_terminal, ran


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cli") / "whole [1] ü"
    with eb.open(directory) as store:
        for number in range(50):
            store.append([("a", "t", b"%d" % number), ("b", "t", b"x" * 300)])
    return directory


@pytest.fixture
def damaged(whole, tmp_path):
    """A copy with one flipped bit in the data of an event in the middle."""
    copy = tmp_path / "damaged"
    shutil.copytree(whole, copy)
    (log,) = (path for path in copy.rglob("*") if _holds_data(path))
    content = bytearray(log.read_bytes())
    place = [i for i in range(len(content)) if content[i : i + 300] == b"x" * 300][20]
    content[place + 150] ^= 1
    log.write_bytes(content)
    return copy


def _holds_data(path):
    return path.is_file() and b"x" * 300 in path.read_bytes()


def test_a_whole_store_is_counted(whole, capfd):
    assert run(["verify", str(whole)]) == Exit.FINE
    out, err = capfd.readouterr()
    assert out.startswith("whole: ")
    assert "100 events, 2 streams" in out
    assert err == ""
    assert run(["verify", str(whole), "--json"]) == Exit.FINE
    (told,) = json_lines(capfd.readouterr().out)
    assert list(told) == ["whole", "commits", "events", "streams", "bytes", "seconds"]
    assert (told["whole"], told["events"], told["streams"]) == (True, 100, 2)


def test_a_quick_check_says_so_by_what_it_counts(whole, capfd):
    assert run(["verify", str(whole), "--quick", "--json"]) == Exit.FINE
    (told,) = json_lines(capfd.readouterr().out)
    assert (told["whole"], told["events"]) == (True, 100)
    assert run(["verify", str(whole), "--quick"]) == Exit.FINE
    assert "whole: 100 events" in capfd.readouterr().out


@pytest.mark.parametrize("how", [[], ["--quick"]])
def test_damage_is_told_with_its_place_and_what_to_do(damaged, how, capfd):
    assert run(["verify", str(damaged), *how]) == Exit.OFF
    out, err = capfd.readouterr()
    assert out.startswith("DAMAGED: ")
    assert "  file    " in out
    assert "  byte    " in out
    assert "  to do   " in out
    assert str(damaged) in out
    assert err == ""


def test_damage_is_told_to_programs(damaged):
    done = ran("verify", damaged, "--json")
    assert done.returncode == Exit.OFF
    (told,) = json_lines(done.stdout)
    assert list(told) == ["whole", "file", "offset", "reason", "remedy"]
    assert told["whole"] is False
    assert told["offset"] > 0
    assert Path(told["file"]).exists()


def test_damage_found_while_a_store_is_open_is_told_alike(whole, monkeypatch, capfd):
    def damaged(_):
        raise eb.CorruptStore("log/1", 4096, "wrong checksum")

    monkeypatch.setattr(eb.EventStore, "verify", damaged)
    assert run(["verify", str(whole)]) == Exit.OFF
    assert "DAMAGED: wrong checksum" in capfd.readouterr().out


def test_other_commands_refuse_a_damaged_store(damaged, capfd):
    assert run(["read", str(damaged)]) == Exit.STORE
    assert "CorruptStore" in capfd.readouterr().err


def test_verify_changes_nothing_in_a_damaged_store(damaged):
    before = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    ran("verify", damaged)
    after = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    # Whoever opens a store leaves a note in its lock file.
    changed = {path.name for path in before if before[path] != after.get(path)}
    assert changed <= {"lock", "LOCK"}
    assert {path.name for path in after.keys() - before.keys()} <= {"lock", "LOCK"}


def test_on_a_terminal_something_is_seen_to_go_on(whole):
    code, shown = on_a_terminal("verify", whole)
    assert code == Exit.FINE
    assert b"checking" in shown
    assert b"\x1b[32m" in shown
