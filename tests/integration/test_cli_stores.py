"""Every command finds its store in the same three ways, and a wrong path is explained.

The hazards: the store is an argument here and an option there, the environment variable
works for half of the commands, and the remedies are arguments of a Python function.
"""

from __future__ import annotations

import json
import signal

import pytest

import eventbraid as eb
from eventbraid.cli import run
from eventbraid.cli._exit import Exit
from tests.command_line import json_lines, ran, start

COMMANDS = {
    "read": ("read",),
    "tail": ("tail",),
    "streams": ("streams",),
    "stats": ("stats",),
    "verify": ("verify",),
    "saga list": ("saga", "list"),
    "saga stuck": ("saga", "stuck"),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli stores") / "a shop.braid"
    with eb.open(path) as store:
        store.append(
            [("order-1", "order.placed", b"1"), ("order-2", "order.placed", b"2")]
        )
    return str(path)


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv("EVENTBRAID_STORE", raising=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_is_the_first_argument_an_option_or_in_the_environment(
    command, shop, monkeypatch, capfd
):
    words = COMMANDS[command]
    answers: set[str] = set()
    for arguments in ((shop,), ("--store", shop)):
        assert run([*words, *arguments, "--json"]) == Exit.FINE
        answers.add(without_times(capfd.readouterr().out))
    monkeypatch.setenv("EVENTBRAID_STORE", shop)
    assert run([*words, "--json"]) == Exit.FINE
    answers.add(without_times(capfd.readouterr().out))
    assert len(answers) == 1


def without_times(text):
    """What a command prints without what differs between two runs of it."""
    varying = {"seconds", "sessions"}
    return json.dumps(
        [{k: v for k, v in one.items() if k not in varying} for one in json_lines(text)]
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_store_the_three_ways_are_named(command, capfd):
    assert run(COMMANDS[command]) == Exit.USAGE
    err = capfd.readouterr().err
    assert "first argument" in err
    assert "--store" in err
    assert "EVENTBRAID_STORE" in err


def test_append_takes_its_store_in_all_three_ways(tmp_path):
    line = b'{"stream":"a","type":"t","data":1}'
    for number, (arguments, variables) in enumerate(
        [(("A",), {}), (("--store", "A"), {}), ((), {"EVENTBRAID_STORE": "A"})], 1
    ):
        environment = {**variables}
        done = ran(
            *("append", *arguments, "--create"),
            given=line,
            cwd=tmp_path,
            env=environment_with(environment),
        )
        assert done.returncode == Exit.FINE, done.stderr
        assert f"a is at version {number}" in done.stdout.decode()


def environment_with(variables):
    from tests.command_line import usual_environment

    return usual_environment(**variables)


def test_beside_the_environment_the_other_arguments_are_streams(
    shop, monkeypatch, capfd
):
    monkeypatch.setenv("EVENTBRAID_STORE", "/nowhere/at/all")
    run(["read", "--store", shop, "order-2", "--json"])
    assert [one["stream"] for one in json_lines(capfd.readouterr().out)] == ["order-2"]
    run(["read", shop, "order-1", "--json"])
    assert [one["stream"] for one in json_lines(capfd.readouterr().out)] == ["order-1"]
    monkeypatch.setenv("EVENTBRAID_STORE", shop)
    run(["read", "order-2", "--json"])
    assert [one["stream"] for one in json_lines(capfd.readouterr().out)] == ["order-2"]


def test_a_saga_is_shown_with_its_store_in_all_three_ways(shop, monkeypatch, capfd):
    for arguments in ((shop, "saga-1"), ("saga-1", "--store", shop)):
        assert run(["saga", "show", *arguments]) == Exit.USAGE
        assert "SagaNotFound" in capfd.readouterr().err
    monkeypatch.setenv("EVENTBRAID_STORE", shop)
    assert run(["saga", "show", "saga-1"]) == Exit.USAGE
    assert "SagaNotFound" in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments", [("stats", "A", "B"), ("saga", "show", "A", "B", "C")]
)
def test_an_argument_too_many_is_refused(arguments, capfd):
    assert run(arguments) == Exit.USAGE
    assert "unexpected extra argument" in capfd.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_remedies_are_the_command_lines_own(command, tmp_path, capfd):
    empty, foreign = tmp_path / "empty", tmp_path / "foreign"
    empty.mkdir()
    foreign.mkdir()
    (foreign / "notes.txt").write_text("no store")
    for path in (tmp_path / "missing", empty, foreign):
        assert run([*COMMANDS[command], str(path)]) in {Exit.USAGE, Exit.STORE}
        err = capfd.readouterr().err
        assert "NotAStore" in err
        assert str(path) in err
        assert "=False" not in err
        assert "=True" not in err
        assert "eb." not in err


def test_an_exclusive_holder_is_named_without_python(shop, capfd):
    with eb.open(shop, mode="exclusive"):
        assert run(["streams", shop]) == Exit.STORE
    err = capfd.readouterr().err
    assert "StoreBusy" in err
    assert "mode=" not in err


# --- answers that are empty for different reasons


def test_an_empty_answer_says_why(shop, capfd):
    reasons = {
        ("--limit", "0"): "--limit 0",
        ("order-9",): "nothing was ever written to order-9",
        ("order-1", "--after", "1"): "none of them matches",
        ("--type", "order.lost"): "the log has 2 events",
    }
    for arguments, reason in reasons.items():
        assert run(["read", shop, *arguments]) == Exit.FINE
        assert reason in capfd.readouterr().err


def test_following_waits_for_a_store_that_is_not_there_yet(tmp_path):
    path = tmp_path / "later.braid"
    with start("tail", path, "--follow", "--json") as following:
        assert b"waiting for a store at" in following.stderr.readline()
        with eb.open(path) as store:
            store.append([("a", "t", b"1")])
            assert json.loads(following.stdout.readline())["stream"] == "a"
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=60)
    assert following.returncode == Exit.INTERRUPTED
