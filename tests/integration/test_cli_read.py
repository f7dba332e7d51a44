"""`read`, `tail`, `streams`, `stats`: what stands in a store, for people and programs.

The hazards: a stream name that takes over the terminal, a number that loses its last
digits on the way, a listing that needs as much memory as the store is large, and a
reader who has left.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import eventbraid as eb
from eventbraid.cli import run
from eventbraid.cli._events import body_lines, event_printer
from eventbraid.cli._exit import Exit
from eventbraid.cli._options import Wanted
from eventbraid.cli._output import Output
from eventbraid.cli._tail import follow_log, show_last
from tests.command_line import json_lines, on_a_terminal, ran, start, usual_environment

ODD = "ünï=çødé 漢字 👩‍🚀"
EVENTS = [
    eb.NewEvent("order-1", "order.placed", b'{"cents":1177}', metadata={"by": "ann"}),
    eb.NewEvent("order-2", "order.placed", b'{"cents":2933}'),
    eb.NewEvent("order-1", "order.paid", b"null"),
    eb.NewEvent("payment-1", "payment.taken", b""),
    eb.NewEvent("order-1", "order.shipped", b"\x00\xff"),
    eb.NewEvent(ODD, "order.shipped", b"plain \x1b[31mtext"),
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Six events over four streams, in a directory with a space in its name."""
    directory = tmp_path_factory.mktemp("cli read") / "a shop.braid"
    with eb.open(directory) as store:
        store.append(EVENTS)
    return str(directory)


def positions(capfd):
    return [event["position"] for event in json_lines(capfd.readouterr().out)]


# --- read


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [1, 2, 3, 4, 5, 6]),
        (["--after", "2", "--before", "5"], [3, 4]),
        (["--backward", "--limit", "2"], [6, 5]),
        (["-n", "0"], []),
        (["--category", "order"], [1, 2, 3, 5]),
        (["--prefix", "order-1"], [1, 3, 5]),
        (["--type", "order.paid", "--type", "payment.taken"], [3, 4]),
        (["--category", "order", "--type", "order.placed", "-n", "1"], [1]),
        (["order-1"], [1, 3, 5]),
        (["order-1", "--after", "1"], [3, 5]),
        (["order-1", "--before", "3", "--backward"], [3, 1]),
        (["order-1", "--type", "order.shipped", "-n", "1"], [5]),
        (["order-1", "-n", "2"], [1, 3]),
        (["order-1", "order-1"], [1, 3, 5]),
        (["payment-1", "order-1"], [1, 3, 4, 5]),
        (["payment-1", "order-1", "--backward", "-n", "3"], [5, 4, 3]),
        (["payment-1", "order-1", "--after", "1", "--before", "5"], [3, 4]),
        (["payment-1", "order-1", "--type", "order.paid"], [3]),
        (["order-1", "nothing"], [1, 3, 5]),
        (["order-1", "-n", str(2**70)], [1, 3, 5]),
        (["nothing"], []),
    ],
)
def test_events_are_chosen(shop, arguments, expected, capfd):
    assert run(["read", shop, *arguments, "--json"]) == Exit.FINE
    assert positions(capfd) == expected


def test_json_has_the_documented_fields(shop, capfd):
    run(["read", shop, "--json"])
    first, *_, sixth = json_lines(capfd.readouterr().out)
    assert list(first) == [
        "position", "stream", "version", "type", "event_id", "recorded_at", "metadata", "data",
    ]  # fmt: skip
    assert first["data"] == {"cents": 1177}
    assert first["metadata"] == {"by": "ann"}
    assert datetime.fromisoformat(first["recorded_at"]).utcoffset().total_seconds() == 0
    assert sixth["stream"] == ODD
    assert "data" not in sixth


def test_data_that_is_no_json_is_given_in_base64(shop, capfd):
    run(["read", shop, "--after", "3", "--json"])
    told = [event["data_base64"] for event in json_lines(capfd.readouterr().out)]
    assert told == ["", "AP8=", "cGxhaW4gG1szMW10ZXh0"]


@pytest.mark.parametrize(
    "data",
    [b"1.10", b"123456789012345678901234567890", b'{"a":1,"a":2}', b'{\n "a": [\r\n 1]}', b'"\xe2\x80\xa8"'],
)  # fmt: skip
def test_json_data_keeps_every_digit_and_stays_on_one_line(tmp_path, data, capfdbinary):
    with eb.open(tmp_path / "s") as store:
        store.append([("a", "t", data)])
    run(["read", str(tmp_path / "s"), "--json"])
    out = capfdbinary.readouterr().out
    assert out.count(b"\n") == 1
    assert b'"data":' + data.replace(b"\n", b" ").replace(b"\r", b" ") + b"}" in out


def test_people_see_columns_and_the_data_below(shop, capfd):
    assert run(["read", shop, "order-1"]) == Exit.FINE
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == [
        "position",
        "time",
        "(UTC)",
        "stream",
        "version",
        "type",
    ]
    assert lines[1].endswith("  order-1        1  order.placed")
    assert lines[2:4] == ['    metadata {"by":"ann"}', '    {"cents": 1177}']
    assert lines[5] == "    null"
    assert lines[7] == "    2 bytes: 00 ff"


def test_nothing_that_a_terminal_would_obey_is_shown(shop, capfd):
    run(["read", shop])
    out = capfd.readouterr().out
    assert "\x1b" not in out
    assert "15 bytes of text: plain \\x1b[31mtext" in out
    assert ODD in out


def test_wide_json_is_indented_and_large_bytes_are_cut():
    wide = b'{"names":[' + b",".join([b'"someone"'] * 20) + b"]}"
    lines = body_lines(wide, 40)
    assert lines[0] == "{"
    assert lines[2] == '    "someone",'
    (cut,) = body_lines(bytes(1000), 80)
    assert cut.startswith("1,000 bytes: 00 00")
    assert "--json" in cut


@pytest.mark.parametrize("depth", [900, 1_000, 1_024, 50_000])
def test_deeply_nested_data_is_shown(depth):
    data = b"[" * depth + b"]" * depth
    assert sum(line.count("[") for line in body_lines(data, 80)) == depth


def test_without_events_people_are_told_and_programs_are_not(shop, capfd):
    run(["read", shop, "nothing"])
    assert capfd.readouterr().err.startswith("no events: nothing was ever written to")
    run(["read", shop, "nothing", "--json"])
    assert capfd.readouterr() == ("", "")


def test_several_streams_are_read_as_of_one_position(tmp_path, capfd, monkeypatch):
    """Whatever comes while the first pages are printed is not part of it."""
    from eventbraid.cli import _read

    directory = str(tmp_path / "s")
    with eb.open(directory) as store:
        store.append([("a", "t", b"1"), ("b", "t", b"1")])
    opened = _read.look_at_store

    class Busy:
        """A store that others append to as soon as the snapshot is taken."""

        def __init__(self, store):
            self.store = store

        def __getattr__(self, name):
            return getattr(self.store, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.store.close()

        def read_streams(self, *arguments, **options):
            snapshot = self.store.read_streams(*arguments, **options)
            assert snapshot.events == []
            self.store.append([("a", "t", b"2"), ("b", "t", b"2")])
            return snapshot

    monkeypatch.setattr(
        _read,
        "look_at_store",
        lambda location, *, read_only: Busy(opened(location, read_only=read_only)),
    )
    for direction in ([], ["--backward"]):
        run(["read", directory, "a", "b", "--json", *direction])
        told = json_lines(capfd.readouterr().out)
        with eb.open(directory) as store:
            assert len(told) == store.head() - 2


# --- tail


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [1, 2, 3, 4, 5, 6]),
        (["-n", "2"], [5, 6]),
        (["-n", "0"], []),
        (["-n", "2", "--category", "order"], [3, 5]),
        (["-n", "1", "--type", "order.placed"], [2]),
        (["--prefix", "nothing"], []),
    ],
)
def test_the_newest_events_come_last(shop, arguments, expected, capfd):
    assert run(["tail", shop, *arguments, "--json"]) == Exit.FINE
    assert positions(capfd) == expected


def test_following_prints_each_event_as_soon_as_it_is_there(tmp_path, monkeypatch):
    printed = tmp_path / "printed"
    with (
        printed.open("w", encoding="utf-8") as stdout,
        eb.open(tmp_path / "s") as store,
    ):
        monkeypatch.setattr(sys, "stdout", stdout)
        out = Output()
        store.append([("a-1", "t", b"1"), ("b-1", "t", b"2"), ("a-2", "t", b"3")])
        printer = event_printer(out, as_json=True)
        wanted = Wanted.of(None, "a", ())
        assert show_last(store, printer, 1, wanted, 3) == 1

        def follow():
            with pytest.raises(eb.errors.StoreClosed):
                follow_log(store, printer, out, wanted, 3)

        follower = threading.Thread(target=follow)
        follower.start()
        for number in range(4, 8):
            store.append([("b-1", "t", b"0"), ("a-1", "t", b"%d" % number)])
            deadline = time.monotonic() + 30
            wanted_text = f'"data":{number}'
            while (
                wanted_text not in printed.read_text() and time.monotonic() < deadline
            ):
                time.sleep(0.001)
            assert wanted_text in printed.read_text()
        store.close()
        follower.join(30)
        assert not follower.is_alive()
    shown = json_lines(printed.read_text())
    assert [e["stream"] for e in shown] == ["a-2", *["a-1"] * 4]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", [[], ["--read-only"]])
def test_what_another_process_writes_is_followed_at_once(tmp_path, how):
    """Not held back in a buffer, and not shown to be read again."""
    with eb.open(tmp_path / "s") as store:
        store.append([("a", "t", b"0")])
        with start("tail", tmp_path / "s", "--follow", "--json", *how) as following:
            for number in range(1, 4):
                assert json.loads(following.stdout.readline())["data"] == number - 1
                store.append([("a", "t", b"%d" % number)])
            following.kill()
            _, err = following.communicate(timeout=60)
    assert err == b""


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_ctrl_c_ends_following(shop, how):
    with start("tail", shop, "--follow", "-n", "1", *how) as tail:
        # The event stands behind a heading for people.
        tail.stdout.readline()
        if not how:
            tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        _, err = tail.communicate(timeout=60)
    assert tail.returncode == Exit.INTERRUPTED
    assert b"Traceback" not in err
    assert b"interrupted" in err


# --- streams, stats


def test_streams_have_a_version_and_a_name(shop, capfd):
    assert run(["streams", shop]) == Exit.FINE
    lines = [line.split(maxsplit=1) for line in capfd.readouterr().out.splitlines()]
    assert lines == [["3", "order-1"], ["1", "order-2"], ["1", "payment-1"], ["1", ODD]]
    run(["streams", shop, "--prefix", "order-", "--json"])
    assert json_lines(capfd.readouterr().out) == [
        {"stream": "order-1", "version": 3},
        {"stream": "order-2", "version": 1},
    ]
    run(["streams", shop, "--prefix", "nothing"])
    assert capfd.readouterr() == ("", "no streams\n")


def test_stats_say_how_much_there_is(shop, tmp_path, capfd):
    assert run(["stats", shop]) == Exit.FINE
    out = capfd.readouterr().out
    assert "last position            6" in out
    assert "in 1 file" in out
    assert "also open" not in out
    run(["stats", shop, "--json"])
    (told,) = json_lines(capfd.readouterr().out)
    assert list(told) == [
        "head", "streams", "bytes", "segments", "first_recorded_at", "last_recorded_at",
        "sessions",
    ]  # fmt: skip
    assert (told["head"], told["streams"]) == (6, 4)
    assert [member["is_self"] for member in told["sessions"]] == [True]
    eb.open(tmp_path / "empty").close()
    run(["stats", str(tmp_path / "empty"), "--json"])
    (told,) = json_lines(capfd.readouterr().out)
    assert (told["head"], told["first_recorded_at"]) == (0, None)


@pytest.mark.parametrize("how", [[], ["--read-only"]])
def test_stats_tell_who_else_has_the_store_open(tmp_path, how, capfd):
    with eb.open(tmp_path / "s") as store:
        store.append([("a", "t", b""), ("a", "t", b"")])
        shown = ran("stats", tmp_path / "s", *how).stdout.decode()
        heading, columns, row = shown.splitlines()[-3:]
        assert heading == "other sessions: 1"
        cells = [re.split(r"  +", line.strip()) for line in (columns, row)]
        told = dict(zip(*cells, strict=True))
        assert told["pid"] == str(os.getpid())
        counts = [told[name] for name in ("appends", "events", "batch")]
        assert counts == ["1", "2", "1.0"]
        assert int(told["fsyncs"]) >= 1
        (told,) = json_lines(ran("stats", tmp_path / "s", *how, "--json").stdout)
        this, command = told["sessions"]
        assert (this["pid"], this["is_self"]) == (os.getpid(), False)
        assert (this["commits"], this["events"]) == (1, 2)
        assert datetime.fromisoformat(this["since"]).utcoffset() == timedelta(0)
        assert (command["is_self"], command["read_only"]) == (True, bool(how))


@pytest.mark.parametrize("command", [["read"], ["read", "--read-only"], ["verify"]])
def test_a_command_works_where_no_store_can_be_shared(
    shop, command, capfd, monkeypatch
):
    def on_a_network(location, *, mode="shared", **options):
        if mode == "shared":
            raise eb.errors.SharingUnsupported(location, "it is on NFS")
        return opened(location, mode=mode, **options)

    opened = eb.open
    monkeypatch.setattr(eb, "open", on_a_network)
    name, *options = command
    assert run([name, shop, *options]) == Exit.FINE
    assert not capfd.readouterr().err


# --- what all of them have in common

READERS = ["read", "tail", "streams", "stats", "verify"]


@pytest.mark.parametrize("command", READERS)
def test_a_reader_makes_no_store(command, tmp_path, capfd):
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.mkdir()
    for directory in (missing, empty):
        assert run([command, str(directory)]) == Exit.USAGE
        assert "NotAStore" in capfd.readouterr().err
    assert not missing.exists()
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("command", [*READERS, "read --read-only"])
def test_a_store_that_others_write_to_is_looked_into(command, tmp_path):
    name, *options = command.split()
    with eb.open(tmp_path / "s") as store:
        store.append([("a-1", "t", b"1")])
        done = ran(name, tmp_path / "s", *options)
        assert (done.returncode, done.stderr) == (Exit.FINE, b"")
        assert done.stdout
        assert store.append([("a-1", "t", b"2")]).last_position == 2


@pytest.mark.parametrize("command", READERS)
def test_a_store_in_use_is_refused_and_its_holder_named(command, tmp_path, capfd):
    with eb.open(tmp_path / "s", mode="exclusive"):
        assert run([command, str(tmp_path / "s")]) == Exit.STORE
    assert f"process {os.getpid()}" in capfd.readouterr().err


@pytest.mark.parametrize("command", READERS)
def test_misuse_of_the_path_is_explained(command, tmp_path, capfd):
    (tmp_path / "file").write_text("no store")
    for location in ("memory:", str(tmp_path / "file"), ""):
        assert run([command, location]) == Exit.USAGE
    assert run([command]) == Exit.USAGE
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["read", "order-1", "--prefix", "a"], "leave out STREAM"),
        (["read", "order-1", "--category", "a"], "leave out STREAM"),
        (["read", "\udcff"], "not UTF-8"),
        (["read", "--type", "\udcff"], "not UTF-8"),
        (["tail", "--category", "\udcff"], "not UTF-8"),
        (["streams", "--prefix", "\udcff"], "not UTF-8"),
        (["read", ""], "invalid stream"),
        (["read", "a\nb"], "control character"),
        (["read", "x" * 300, "y"], "invalid stream"),
        (["read", "--after", "-1"], "range"),
        (["read", "--after", "first"], "first"),
        (["read", "--limit", str(2**70)], "invalid limit"),
        (["tail", "-n", str(2**70)], "invalid limit"),
        (["streams", "--nonsense"], "No such option"),
    ],
)
def test_misuse_is_explained(shop, arguments, said, capfd):
    command, *rest = arguments
    assert run([command, shop, *rest]) == Exit.USAGE
    out, err = capfd.readouterr()
    assert said in err
    assert not out


@pytest.mark.parametrize("command", [*READERS, "append"])
def test_help_shows_examples_or_fields(command, capfd):
    assert run([command, "-h"]) == Exit.FINE
    out = capfd.readouterr().out
    assert "Options" in out
    assert "--json" in out


# --- as a process


@pytest.fixture(scope="module")
def long_log(tmp_path_factory):
    """More than any pipe or buffer holds."""
    directory = str(tmp_path_factory.mktemp("cli") / "long")
    with eb.open(directory) as store:
        for _ in range(200):
            store.append([(f"s-{n}", "t", b'"%s"' % (b"x" * 1000)) for n in range(500)])
    return directory


@pytest.mark.parametrize("arguments", [["read"], ["read", "--json"], ["read", "--json", "--backward"], ["tail", "-n", "20000"]])  # fmt: skip
def test_a_reader_who_leaves_ends_it_quietly(long_log, arguments):
    command, *options = arguments
    with start(command, long_log, *options) as reading:
        reading.stdout.readline()
        reading.stdout.close()
        reading.stdout = None
        _, err = reading.communicate(timeout=60)
    assert reading.returncode == Exit.PIPE
    assert err == b""


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM of /proc")
def test_a_long_log_is_read_in_bounded_memory(long_log):
    """100 MB of data, all of it through one process."""
    code = (
        "from eventbraid.cli import run; import sys\n"
        f"assert run(['read', {long_log!r}, *sys.argv[1:]]) == 0\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )

    def most(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
        )
        return int(done.stderr)

    little = most("-n", "1", "--json")
    # The store's own cache may fill, up to the 64 MiB that it is given.
    assert most("--json") - little < 80 * 1024
    some = [f"s-{number}" for number in range(8)]
    assert most(*some, "--json") - little < 80 * 1024


def test_an_output_without_room_is_told_once(long_log):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = start("read", long_log, stdout=full)
        _, err = done.communicate(timeout=60)
    assert done.returncode == Exit.STORE
    assert err.count(b"\n") == 1
    assert b"No space left" in err


def test_an_encoding_that_lacks_a_letter_gets_it_escaped(shop):
    environment = usual_environment(PYTHONIOENCODING="ascii")
    done = ran("read", shop, ODD, env=environment)
    assert done.returncode == Exit.FINE
    assert b"\\u6f22" in done.stdout
    # JSON is UTF-8, whatever the reader's locale.
    done = ran("read", shop, ODD, "--json", env=environment)
    assert ODD.encode() in done.stdout


def test_colours_are_for_terminals_that_want_them(shop):
    code, shown = on_a_terminal("read", shop, "order-1")
    assert code == Exit.FINE
    assert b"\x1b[1mposition" in shown
    assert b"\x1b" not in on_a_terminal("read", shop, "order-1", NO_COLOR="1")[1]
    assert b"\x1b" not in on_a_terminal("read", shop, "order-1", TERM="dumb")[1]
    assert b"\x1b" not in ran("read", shop, "order-1").stdout
