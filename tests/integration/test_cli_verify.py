"""`verify`: 0 for a whole store, 1 for a damaged one with the place and the remedy."""

from __future__ import annotations

import re
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
    # A checksum that stands beside may begin with an x: matches must not overlap.
    place = [match.start() for match in re.finditer(b"x{300}", content)][20]
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
    assert list(told) == [
        "whole", "commits", "events", "streams", "bytes",
        "unproven", "quarantined", "seconds",
    ]  # fmt: skip
    assert (told["whole"], told["events"], told["streams"]) == (True, 100, 2)


def test_a_quick_check_reads_the_newest_commits(tmp_path, capfd):
    directory = tmp_path / "s"
    with eb.open(directory) as store:
        for _ in range(12):
            store.append([("a", "t", b"x" * 300_000)])
    assert run(["verify", str(directory), "--quick", "--json"]) == Exit.FINE
    (told,) = json_lines(capfd.readouterr().out)
    assert told["whole"]
    assert 0 < told["events"] < 12
    assert run(["verify", str(directory), "--quick"]) == Exit.FINE
    assert capfd.readouterr().out.startswith("whole: ")


def test_what_a_crash_left_undone_is_told_and_left_as_it_is(whole, tmp_path, capfd):
    crashed = tmp_path / "crashed"
    with eb.open(tmp_path / "s") as store:
        store.append([("a", "t", b"1")])
        shutil.copytree(tmp_path / "s", crashed)
    before = _contents(crashed)
    assert run(["verify", str(crashed), "--json"]) == Exit.FINE
    (told,) = json_lines(capfd.readouterr().out)
    assert told["unproven"] > 0
    assert run(["verify", str(crashed)]) == Exit.FINE
    assert "not proven to be on the disk" in capfd.readouterr().out
    assert run(["read", str(crashed), "--read-only"]) == Exit.FINE
    assert "not proven to be on the disk" in capfd.readouterr().err
    assert _contents(crashed) == before
    assert run(["read", str(crashed), "--json"]) == Exit.FINE
    out, err = capfd.readouterr()
    assert [told["position"] for told in json_lines(out)] == [1]
    assert err == ""


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
    def damaged(_, *, quick):
        assert not quick
        raise eb.errors.CorruptStore("log/1", 4096, "wrong checksum")

    monkeypatch.setattr(eb.EventStore, "verify", damaged)
    assert run(["verify", str(whole)]) == Exit.OFF
    assert "DAMAGED: wrong checksum" in capfd.readouterr().out


def test_other_commands_refuse_a_damaged_store(damaged, capfd):
    assert run(["read", str(damaged)]) == Exit.STORE
    assert "CorruptStore" in capfd.readouterr().err


def test_a_damaged_store_is_shown_up_to_the_damage_on_demand(damaged, capfd):
    assert run(["read", str(damaged), "--read-only", "--json"]) == Exit.FINE
    out, err = capfd.readouterr()
    assert [told["position"] for told in json_lines(out)] == list(range(1, 41))
    assert "damaged" in err


def test_verify_changes_nothing_in_a_damaged_store(damaged):
    before = _contents(damaged)
    ran("verify", damaged)
    assert _contents(damaged) == before


def _contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_on_a_terminal_something_is_seen_to_go_on(whole):
    code, shown = on_a_terminal("verify", whole)
    assert code == Exit.FINE
    assert b"checking" in shown
    assert b"\x1b[32m" in shown
