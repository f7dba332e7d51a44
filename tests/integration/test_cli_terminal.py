"""Stored text reaches a terminal as data: it gives no orders, forges no lines.

The hazards: names, payloads and the texts of errors come from services and customers.
A terminal obeys escapes among them, a table takes brackets for markup, a line break makes
a line that the command did not print, and one foreign record hides what a person looks for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta

import anyio
import pytest

import eventbraid as eb
from eventbraid.cli import run
from eventbraid.cli._exit import Exit, explain
from tests.command_line import json_lines, on_a_terminal, ran

TITLE = "\x1b]0;pwned\x07"
CLEAR = "\x1b[2J"
C1 = "\x9b2J"
SAGA_ID = "saga-1"


class Declined(Exception):
    """A refusal whose text another program chose."""


async def authorize(_: eb.StepContext[dict]) -> dict:
    return {"code": f"{TITLE}{C1}[bold]:smile:"}


async def decline(_: eb.StepContext[dict]) -> str:
    raise Declined(f"says {CLEAR}\nFORGED  completed")


async def refuse(_: eb.StepContext[dict], did: object) -> None:
    raise Declined(f"can't {CLEAR}{C1}")


@pytest.fixture(scope="module")
def stuck_store(tmp_path_factory):
    """A store with a stuck saga of hostile texts, and foreign records beside it."""
    path = tmp_path_factory.mktemp("terminal") / "shop.braid"
    once = eb.RetryPolicy(maximum_attempts=1)
    refusals = (Declined,)
    second = timedelta(seconds=2)
    saga = eb.Saga(
        "hostile",
        dict,
        steps=[
            eb.step("pay [/x] [red]", authorize, timeout=second).compensated_by(
                refuse, retry=once, refusals=refusals
            ),
            eb.step(
                "ship", decline, timeout=second, retry=once, refusals=refusals
            ).without_compensation(),
        ],
    )

    async def main():
        async with eb.open_async(path) as store:
            async with eb.SagaCoordinator(store, [saga]) as coordinator:
                handle = await coordinator.start(saga, {}, id=SAGA_ID)
                await handle.result()
            await store.append(
                [
                    ("order-7", "saga.stuck", b"junk"),
                    ("order-8", "saga.started", b"\xff"),
                    ("order-8", "saga.stuck", b"junk"),
                ]
            )

    anyio.run(main)
    return str(path)


@pytest.mark.parametrize(
    "command",
    [("saga", "show", SAGA_ID), ("saga", "stuck"), ("saga", "list"), ("read",)],
)
def test_no_stored_text_gives_orders_to_a_terminal(command, stuck_store):
    code, shown = on_a_terminal(*command, "--store", stuck_store)
    assert code in {Exit.FINE, Exit.OFF}, shown
    assert b"\x1b]0;" not in shown
    assert CLEAR.encode() not in shown
    assert C1.encode() not in shown
    assert b"\nFORGED" not in shown.replace(b"\r", b"").replace(b" ", b"")


def test_a_name_with_markup_is_printed_as_it_is(stuck_store, capfd):
    assert run(["saga", "show", stuck_store, SAGA_ID]) == Exit.OFF
    out = capfd.readouterr().out
    assert "pay [/x] [red]" in out
    assert "[bold]:smile:" in out


def test_foreign_records_hide_no_stuck_saga(stuck_store, capfd):
    assert run(["saga", "stuck", stuck_store, "--json"]) == Exit.OFF
    found = {one["saga_id"]: one for one in json_lines(capfd.readouterr().out)}
    assert found[SAGA_ID]["saga"] == "hostile"
    assert "can't be read" in found["order-8"]["error"]
    assert "order-7" not in found


def test_json_of_sagas_has_the_documented_fields(stuck_store, capfd):
    run(["saga", "show", stuck_store, SAGA_ID, "--json"])
    (shown,) = json_lines(capfd.readouterr().out)
    assert list(shown) == [
        *("saga_id", "saga", "version", "status", "outcome", "failure"),
        *("steps", "entries"),
    ]
    assert shown["status"] == "stuck"
    assert list(shown["entries"][0]) == [
        *("time", "what", "step", "attempt", "detail", "position", "type"),
        "traceback",
    ]
    run(["saga", "list", stuck_store, "--json", "--status", "stuck"])
    listed = json_lines(capfd.readouterr().out)
    assert {"saga_id": SAGA_ID, "status": "stuck"} in listed


def test_json_escapes_control_characters_beyond_ascii(tmp_path, capfdbinary):
    text = f"{C1}\x7f\u0085 ü"
    with eb.open(tmp_path / "s") as store:
        data = (
            json.dumps(text, ensure_ascii=False).encode().replace(b"\\u007f", b"\x7f")
        )
        store.append([eb.NewEvent("a", "t", data, metadata={"said": text})])
    run(["read", str(tmp_path / "s"), "--json"])
    out = capfdbinary.readouterr().out
    assert not any(one in out.decode().removesuffix("\n") for one in "\x9b\x7f\x85")
    (shown,) = json_lines(out)
    assert shown["data"] == shown["metadata"]["said"] == text


def test_json_with_tabs_between_its_tokens_stays_json(tmp_path, capfd):
    with eb.open(tmp_path / "s") as store:
        store.append([("a", "t", b'{"a":\t"\xc2\x85",\n\t"b":1}')])
    run(["read", str(tmp_path / "s"), "--json"])
    (shown,) = json_lines(capfd.readouterr().out)
    assert shown["data"] == {"a": "\x85", "b": 1}


def test_an_errors_text_is_one_line_without_controls(capfd):
    explain(eb.errors.SagaNotFound(f"saga-{CLEAR}\nFORGED"))
    explain(ValueError(f"{CLEAR}\nFORGED"))
    err = capfd.readouterr().err
    assert "\x1b" not in err
    assert "\nFORGED" not in err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            b'{"stream":"a","stream":"b","type":"t","data":1}',
            b"`stream` occurs 2 times",
        ),
        (b'{"stream":"a","type":"t","data":1,"data":2}', b"`data` occurs 2 times"),
        (
            b'{"stream":"a","type":"t","data":1,"metadata":{"k":"1","k":"2"}}',
            b"`k` occurs 2 times",
        ),
    ],
)
def test_a_repeated_field_is_refused(tmp_path, line, told):
    done = ran("append", tmp_path / "s", "--create", given=line)
    assert done.returncode == Exit.USAGE
    assert told in done.stderr
    assert not (tmp_path / "s").exists()


def test_repetitions_inside_of_the_data_are_kept_as_written(tmp_path):
    line = b'{"stream":"a","type":"t","data":{"k":1,"k":2}}'
    assert ran("append", tmp_path / "s", "--create", given=line).returncode == Exit.FINE
    with eb.open(tmp_path / "s") as store:
        (stored,) = store.read_all()
    assert stored.data == b'{"k":1,"k":2}'


# --- the demo's output


def test_a_reader_of_the_demo_that_goes_ends_it_with_141(tmp_path):
    command = [sys.executable, "-m", "eventbraid", "demo", str(tmp_path / "demo")]
    with subprocess.Popen(
        [*command, "--limit", "400"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as demo:
        demo.stdout.readline()
        demo.stdout.close()
        err = demo.stderr.read()
        demo.wait(60)
    assert demo.returncode == Exit.PIPE, err
    assert err == b""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_narrow_terminal_shows_every_number_of_the_report(tmp_path):
    _, wide = on_a_terminal(
        "demo", tmp_path / "demo", "--limit", "40", "--late", "0", COLUMNS="200"
    )
    _, narrow = on_a_terminal("demo", tmp_path / "demo", "--limit", "40", COLUMNS="60")
    for name in ("orders", "completed", "captured", "refunded", "shipped"):
        assert number_beside(name, narrow) == number_beside(name, wide)


def number_beside(name, shown):
    """The number in the report's last row of this name."""
    lines = shown.decode().splitlines()
    rows = [line.split() for line in lines if line.startswith(f"{name} ")]
    return rows[-1][1]


@pytest.mark.parametrize("command", ["stats", "streams", "verify"])
def test_a_surplus_argument_is_shown_without_controls(command, tmp_path, capfd):
    store = str(tmp_path / "s")
    eb.open(store).close()
    assert run([command, store, f"x{CLEAR}\u202e{C1}\nFORGED"]) == 2
    err = capfd.readouterr().err
    assert r"x\x1b[2J\u202e\x9b" in err
    assert "\nFORGED" not in err
