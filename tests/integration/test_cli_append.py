"""`append`: events from standard input, wholly or not at all.

The hazards: half of a file is written before its bad line is found, a mistyped path
makes a store, a number is rounded on its way in, and a retry writes it twice.
"""

from __future__ import annotations

import base64
import fcntl
import os
import signal
import sys
import termios
import time
from datetime import UTC, datetime

import pytest

import eventbraid as eb
from eventbraid.cli import run
from eventbraid.cli._exit import Exit
from tests.command_line import json_lines, on_a_terminal, ran, start


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "a store.braid"


def line(stream="a", data=1):
    return b'{"stream":"%s","type":"t","data":%d}\n' % (stream.encode(), data)


def unread_bytes(pipe):
    """Return how many bytes a pipe has that its reader hasn't read."""
    count = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    return int.from_bytes(count, sys.byteorder)


def events(directory):
    with eb.open(directory, create=False) as store:
        return list(store.read_all())


# --- what is written


def test_all_lines_are_one_commit(directory):
    done = ran(
        "append",
        directory,
        "--create",
        "--json",
        given=line("a") + b"\n \r\n" + line("b"),
    )
    assert done.returncode == Exit.FINE, done.stderr
    assert json_lines(done.stdout) == [
        {
            "commit": 1,
            "first_line": 1,
            "last_line": 4,
            "events": 2,
            "first_position": 1,
            "last_position": 2,
            "versions": {"a": 1, "b": 1},
            "replayed": False,
        }
    ]
    assert [event.stream for event in events(directory)] == ["a", "b"]


def test_people_are_told_what_was_written(directory):
    done = ran("append", directory, "--create", given=line("a") + line("a"))
    assert done.stdout.decode() == (
        "commit 1: 2 events, positions 1 to 2\n  a is at version 2\n"
    )
    many = b"".join(line(f"s-{number}") for number in range(20))
    done = ran("append", directory, "--create", given=many)
    assert done.stdout.decode() == (
        "commit 1: 20 events, positions 3 to 22; 20 streams\n"
    )


def test_all_fields_arrive_as_they_were_written(directory):
    given = (
        '{"stream":"ünï=çødé","type":"漢字","data": {"n": 123456789012345678901.10 },'
        '"metadata":{"correlation_id":"c"},'
        '"event_id":"01a210fb-a4b3-75b3-8a4c-a52a8ab2ce19",'
        '"original_time":"1997-08-02T14:00:00+02:00"}\n'
        '{"stream":"b","type":"t","data_base64":"AAH/"}\n'
        '{"stream":"b","type":"t","data":null}\n'
        '{"stream":"b","type":"t","data_base64":""}'
    )
    done = ran("append", directory, "--create", given=given.encode())
    assert done.returncode == Exit.FINE, done.stderr
    first, second, third, fourth = events(directory)
    assert (first.stream, first.type) == ("ünï=çødé", "漢字")
    assert first.data == b'{"n": 123456789012345678901.10 }'
    assert first.correlation_id == "c"
    assert str(first.event_id) == "01a210fb-a4b3-75b3-8a4c-a52a8ab2ce19"
    assert first.original_time == datetime(1997, 8, 2, 12, tzinfo=UTC)
    assert [one.data for one in (second, third, fourth)] == [
        b"\x00\x01\xff",
        b"null",
        b"",
    ]


def test_what_read_prints_append_takes(directory, tmp_path):
    with eb.open(directory) as store:
        store.append([("a", "t", b'{"x": 1.10}'), ("b", "u", b"\xff"), ("a", "t", b"")])
        time = datetime(1997, 8, 2, 12, tzinfo=UTC)
        store.append([eb.NewEvent("a", "t", b"1", original_time=time)])
    printed = ran("read", directory, "--json").stdout
    assert (
        ran("append", tmp_path / "copy", "--create", given=printed).returncode
        == Exit.FINE
    )

    def facts(event):
        place = event.stream, event.version, event.event_id
        return *place, event.data, event.original_time

    assert list(map(facts, events(tmp_path / "copy"))) == list(
        map(facts, events(directory))
    )


def test_an_encoded_body_is_printed_with_its_codec_and_appended_unchanged(
    directory, tmp_path
):
    body = b"\xc1\x01\x04zlib\x78\x9c\n\t"
    with eb.open(directory) as store:
        store.append([("a", "t", body)])
    printed = ran("read", directory, "--json").stdout
    [fields] = json_lines(printed)
    assert fields["codec"] == "zlib"
    assert base64.b64decode(fields["data_base64"]) == body
    shown = ran("tail", directory).stdout.decode()
    assert f"encoded by the codec 'zlib', {len(body)} bytes" in shown
    copy = tmp_path / "copy"
    assert ran("append", copy, "--create", given=printed).returncode == Exit.FINE
    [copied] = events(copy)
    assert copied.data == body


def test_commits_are_cut_by_size(directory):
    given = b"".join(line("a", number) for number in range(5))
    done = ran(
        "append", directory, "--create", "--commit-size", "2", "--json", given=given
    )
    told = json_lines(done.stdout)
    assert [one["events"] for one in told] == [2, 2, 1]
    assert [one["last_line"] for one in told] == [2, 4, 5]
    assert [one["commit"] for one in told] == [1, 2, 3]


@pytest.mark.timeout(60)
def test_each_commit_is_told_before_the_next_is_read(directory):
    with start(
        "append", directory, "--create", "--commit-size", "1", "--json"
    ) as appending:
        for number in range(1, 4):
            appending.stdin.write(line("a", number))
            appending.stdin.flush()
            (told,) = json_lines(appending.stdout.readline())
            assert told["last_position"] == number
        appending.communicate(timeout=60)
    assert appending.returncode == Exit.FINE


# --- what is expected


@pytest.mark.parametrize(
    ("expectations", "code"),
    [
        (["a=2"], Exit.FINE),
        (["a=any", "b=0", "c=none"], Exit.FINE),
        (["a=exists"], Exit.FINE),
        (["odd=name=1", "a=2"], Exit.FINE),
        (["a=1"], Exit.STORE),
        (["a=none"], Exit.STORE),
        (["b=exists"], Exit.STORE),
        (["a=2", "b=1"], Exit.STORE),
    ],
)
def test_expectations_are_judged(directory, expectations, code):
    with eb.open(directory) as store:
        store.append([("a", "t", b""), ("a", "t", b""), ("odd=name", "t", b"")])
    options = [part for text in expectations for part in ("--expect", text)]
    done = ran("append", directory, "--create", *options, given=line("a"))
    assert done.returncode == code, done.stderr
    assert len(events(directory)) == (4 if code == Exit.FINE else 3)
    if code == Exit.STORE:
        assert b"VersionConflict" in done.stderr


def test_only_the_first_of_several_commits_expects(directory):
    done = ran(
        *("append", directory, "--create", "--commit-size", "1", "--expect", "a=none"),
        given=line("a") * 3,
    )
    assert done.returncode == Exit.FINE, done.stderr
    assert len(events(directory)) == 3


@pytest.mark.parametrize("text", ["a", "=3", "a=", "a=x", "a=-1", "a=1.0", "a=²", f"a={2**70}"])  # fmt: skip
def test_an_expectation_that_is_none_is_misuse(directory, text):
    done = ran("append", directory, "--create", "--expect", text, given=line())
    assert done.returncode == Exit.USAGE
    assert not directory.exists()


def test_a_stream_expected_twice_is_misuse(directory):
    done = ran(
        "append",
        directory,
        "--create",
        "--expect",
        "a=1",
        "--expect",
        "a=2",
        given=line(),
    )
    assert done.returncode == Exit.USAGE
    assert b"named twice" in done.stderr


def test_a_check_without_events_is_made(directory):
    eb.open(directory).close()
    assert (
        ran("append", directory, "--create", "--expect", "a=none").returncode
        == Exit.FINE
    )
    assert (
        ran("append", directory, "--create", "--expect", "a=exists").returncode
        == Exit.STORE
    )


# --- once


def test_under_a_key_it_is_written_once(directory):
    arguments = ("append", directory, "--create", "--idempotency-key", "k", "--json")
    first, again = (ran(*arguments, given=line()) for _ in range(2))
    assert json_lines(first.stdout)[0]["replayed"] is False
    assert json_lines(again.stdout)[0]["replayed"] is True
    assert len(events(directory)) == 1
    other = ran(*arguments, given=line(data=2))
    assert other.returncode == Exit.STORE
    assert b"IdempotencyMismatch" in other.stderr
    told = ran(
        "append", directory, "--create", "--idempotency-key", "k", given=line()
    ).stdout
    assert b"it was there before" in told


def test_a_cut_load_that_failed_is_finished_under_its_key(directory):
    arguments = (
        "append",
        directory,
        "--create",
        "--idempotency-key",
        "k",
        "--commit-size",
        "2",
    )
    whole = b"".join(line("a", number) for number in range(6))
    broken = whole.replace(b'"data":4', b'"data":')
    failed = ran(*arguments, given=broken)
    assert failed.returncode == Exit.USAGE
    assert b"line 5" in failed.stderr
    assert b"the 2 before it were" in failed.stderr
    assert len(events(directory)) == 4
    done = ran(*arguments, "--json", given=whole)
    assert [one["replayed"] for one in json_lines(done.stdout)] == [True, True, False]
    assert [event.data for event in events(directory)] == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
        b"5",
    ]


def test_no_good_line_stands_in_for_a_bad_one_of_its_commit(directory):
    given = line("a", 0) * 2 + b"bad\n" + line("a", 1) * 4
    done = ran("append", directory, "--create", "--commit-size", "2", given=given)
    assert done.returncode == Exit.USAGE
    assert b"line 3" in done.stderr
    assert [event.data for event in events(directory)] == [b"0", b"0"]


# --- lines that are no events

BAD = {
    "nonsense": (b"nonsense", "not JSON"),
    "half a line": (b'{"stream":"a"', "not JSON"),
    "two objects": (line().strip() * 2, "not JSON"),
    "no UTF-8": (b'{"stream":"\xff","type":"t","data":1}', "not UTF-8"),
    "a lone surrogate": (b'{"stream":"\\ud800","type":"t","data":1}', "not JSON"),
    "not a number": (b'{"stream":"a","type":"t","data":NaN}', "not JSON"),
    "no object": (b"[1]", "Expected `object`"),
    "no stream": (b'{"type":"t","data":1}', "`stream`"),
    "no type": (b'{"stream":"a","data":1}', "`type`"),
    "a number for a stream": (b'{"stream":1,"type":"t","data":1}', "$.stream"),
    "no data": (b'{"stream":"a","type":"t"}', "`data`"),
    "data twice": (b'{"stream":"a","type":"t","data":1,"data_base64":""}', "`data`"),
    "no base64": (b'{"stream":"a","type":"t","data_base64":"!"}', "$.data_base64"),
    "a misspelt field": (b'{"stream":"a","type":"t","data":1,"meta":{}}', "`meta`"),
    "metadata of numbers": (b'{"stream":"a","type":"t","data":1,"metadata":{"a":1}}', "$.metadata"),
    "no UUID": (b'{"stream":"a","type":"t","data":1,"event_id":"7"}', "$.event_id"),
    "no time": (b'{"stream":"a","type":"t","data":1,"original_time":"noon"}', "$.original_time"),
    "no time zone": (b'{"stream":"a","type":"t","data":1,"original_time":"1997-08-02T14:00:00"}', "$.original_time"),
    "no year in UTC": (b'{"stream":"a","type":"t","data":1,"original_time":"0001-01-01T00:00:00+02:00"}', "1 to 9999"),
    "an empty stream": (b'{"stream":"","type":"t","data":1}', "invalid stream"),
    "a control character": (b'{"stream":"a\\nb","type":"t","data":1}', "control character"),
    "an empty type": (b'{"stream":"a","type":"","data":1}', "invalid event type"),
    "a long name": (b'{"stream":"%s","type":"t","data":1}' % (b"x" * 300), "invalid stream"),
    "too deep": (b'{"stream":"a","type":"t","data":%s}' % (b"[" * 1020 + b"]" * 1020), "nested"),
    "zeros": (bytes(100), "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_line_is_named_and_nothing_is_written(directory, case):
    bad, said = BAD[case]
    done = ran("append", directory, "--create", given=line() + bad + b"\n" + line())
    assert done.returncode == Exit.USAGE
    assert b"line 2: " in done.stderr
    assert said.encode() in done.stderr
    assert b"nothing was written" in done.stderr
    assert not done.stdout
    assert not directory.exists()


@pytest.mark.parametrize("case", ["an empty stream", "nonsense"])
def test_a_bad_line_leaves_a_store_that_is_there_as_it_was(directory, case):
    ran("append", directory, "--create", given=line())
    done = ran("append", directory, "--create", given=line() + BAD[case][0])
    assert done.returncode == Exit.USAGE
    assert b"line 2" in done.stderr
    assert len(events(directory)) == 1


def test_many_bad_lines_are_told_up_to_a_point(directory):
    done = ran("append", directory, "--create", given=b"bad\n" * 50)
    assert b"line 20" in done.stderr
    assert b"line 21" not in done.stderr
    assert b"and 30 more" in done.stderr


def test_bytes_by_chance_are_refused(directory):
    done = ran("append", directory, "--create", given=os.urandom(5000))
    assert done.returncode == Exit.USAGE
    assert not directory.exists()


def write_all(pipe, data):
    """Write to an unbuffered pipe, where a process that is stopped writes less."""
    while data:
        data = data[pipe.write(data) :]


def test_a_commit_that_is_too_large_is_refused_before_all_of_it_is_read(directory):
    body = base64.b64encode(bytes(3 * 2**20))
    with start("append", directory, "--create", bufsize=0) as appending:
        with pytest.raises(BrokenPipeError):
            while True:
                write_all(
                    appending.stdin,
                    b'{"stream":"a","type":"t","data_base64":"%s"}\n' % body,
                )
        err = appending.stderr.read()
        appending.wait(60)
    assert appending.returncode == Exit.USAGE
    assert b"line 6: a commit holds at most 16 MiB; use --commit-size" in err


def test_a_line_that_never_ends_is_refused(directory):
    with start("append", directory, "--create", bufsize=0) as appending:
        with pytest.raises(BrokenPipeError):
            while True:
                write_all(appending.stdin, b" " * 2**20 + b"x")
        err = appending.stderr.read()
        appending.wait(60)
    assert appending.returncode == Exit.USAGE
    assert b"line 1: it is longer than" in err


def test_too_many_streams_for_one_commit_are_refused(directory):
    given = b"".join(line(f"s-{number}") for number in range(10_001))
    done = ran("append", directory, "--create", given=given)
    assert done.returncode == Exit.USAGE
    assert b"smaller --commit-size" in done.stderr
    assert not directory.exists()


# --- no lines, no store, no input


def test_without_lines_there_is_nothing_to_do(directory):
    done = ran("append", directory, "--create")
    assert done.returncode == Exit.FINE
    assert b"nothing to append" in done.stderr
    assert not directory.exists()


@pytest.mark.parametrize("options", [(), ("--no-create",)])
def test_a_mistyped_path_makes_no_store(directory, options):
    done = ran("append", directory, *options, given=line())
    assert done.returncode == Exit.USAGE
    assert b"there is no store at" in done.stderr
    assert b"--create" in done.stderr
    assert not directory.exists()


def test_events_are_appended_beside_another_process(directory):
    with eb.open(directory) as store:
        store.append([("a", "t", b"1")])
        done = ran("append", directory, "--create", given=line())
        assert done.returncode == Exit.FINE, done.stderr
        assert store.head() == 2


def test_a_store_in_use_is_refused_and_its_holder_named(directory):
    with eb.open(directory, mode="exclusive"):
        done = ran("append", directory, "--create", given=line())
    assert done.returncode == Exit.STORE
    assert f"process {os.getpid()}".encode() in done.stderr


def test_memory_is_no_place_for_events_that_are_to_stay():
    done = ran("append", "memory:", given=line())
    assert done.returncode == Exit.USAGE
    assert b"path of a directory" in done.stderr


def test_a_closed_input_is_misuse(directory):
    done = ran("append", directory, "--create", preexec_fn=lambda: os.close(0))
    assert done.returncode == Exit.USAGE
    assert b"standard input is closed" in done.stderr


def test_ctrl_c_while_waiting_for_lines_writes_nothing(directory):
    with start("append", directory, "--create") as appending:
        appending.stdin.write(line())
        appending.stdin.flush()
        # It has read the line, so it runs, handles Ctrl-C, and waits for another line.
        deadline = time.monotonic() + 60
        while unread_bytes(appending.stdin):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        appending.send_signal(signal.SIGINT)
        appending.wait(60)
        err = appending.stderr.read()
    assert appending.returncode == Exit.INTERRUPTED
    assert b"Traceback" not in err
    assert not directory.exists()


def test_at_a_terminal_one_is_told_how_to_end(directory):
    code, shown = on_a_terminal("append", directory, "--create", typed=line() + b"\x04")
    assert code == Exit.FINE
    assert b"Ctrl-D ends" in shown
    assert b"commit 1: 1 event" in shown
    assert len(events(directory)) == 1


def test_an_answer_that_nobody_reads_is_no_lost_commit(directory):
    with start("append", directory, "--create", "--json") as appending:
        appending.stdout.close()
        appending.stdout = None
        _, err = appending.communicate(line(), timeout=60)
    assert appending.returncode == Exit.PIPE
    assert err == b""
    assert len(events(directory)) == 1


def test_an_interrupted_commit_says_that_it_runs_on(directory, monkeypatch, capfd):
    import io

    interruption = KeyboardInterrupt()
    interruption.outcome_unknown = True

    def interrupted(*_, **__):
        raise interruption

    monkeypatch.setattr(eb.EventStore, "append", interrupted)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line())))
    eb.open(directory).close()
    assert run(["append", str(directory)]) == Exit.INTERRUPTED
    assert "may still be written" in capfd.readouterr().err
