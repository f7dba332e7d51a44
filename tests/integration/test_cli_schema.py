"""`eventbraid schema`: a check that a continuous integration can rely on."""

from __future__ import annotations

import json

import pytest

from tests.command_line import json_lines, ran

EVENTS = """
import eventbraid as eb
from eventbraid.event import EventRegistry

registry = EventRegistry()

class Money(eb.Int, ge=0): ...

@eb.event("order.placed")
class OrderPlaced:
    number: int
    total: Money

@eb.event("order.shipped", registry=registry)
class OrderShipped:
    number: int
"""


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop").mkdir()
    write(tmp_path, EVENTS)
    done = ran(
        "schema", "dump", "--app", "shop.events", "--output", "s.json", cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, b"")
    return tmp_path


def write(shop, text):
    (shop / "shop" / "events.py").write_text(text)


def check(shop, *options, app="shop.events"):
    return ran(
        "schema", "check", "--app", app, "--against", "s.json", *options, cwd=shop
    )


def test_unchanged_events_pass(shop):
    done = check(shop, "--exact")
    assert (done.returncode, done.stdout) == (0, b"no changes\n")
    assert check(shop, "--json").stdout == b""


def test_a_dump_is_the_same_each_time_and_has_only_own_events(shop):
    first = (shop / "s.json").read_bytes()
    again = ran("schema", "dump", "--app", "shop.events", cwd=shop)
    assert (again.returncode, again.stdout) == (0, first)
    assert list(json.loads(first)["events"]) == ["order.placed"]


def test_the_events_of_the_library_are_left_out(shop):
    apps = ("--app", "eventbraid.saga", "--app", "eventbraid.lease")
    done = ran("schema", "dump", *apps, cwd=shop)
    assert (done.returncode, json.loads(done.stdout)["events"]) == (0, {})


def test_a_registry_of_the_module_can_be_named(shop):
    done = ran("schema", "dump", "--app", "shop.events:registry", cwd=shop)
    assert list(json.loads(done.stdout)["events"]) == ["order.shipped"]


def test_a_breaking_change_ends_with_1(shop):
    write(shop, EVENTS.replace("total: Money", "total: Money\n    currency: str"))
    done = check(shop)
    assert done.returncode == 1
    assert b"BREAKING  order.placed version 1, currency: the new field" in done.stdout
    assert b"1 change, 1 of them breaking" in done.stdout
    [change] = json_lines(check(shop, "--json").stdout)
    assert change.pop("message")
    assert change == {
        "breaking": True,
        "kind": "field_required",
        "event": "order.placed",
        "version": 1,
        "field": "currency",
    }


def test_a_change_that_breaks_nothing_ends_with_0(shop):
    write(shop, EVENTS.replace("total: Money", "total: Money\n    note: str = ''"))
    done = check(shop)
    assert done.returncode == 0
    assert b"ok        order.placed version 1, note: it is new" in done.stdout


def test_an_exact_check_wants_the_file_to_be_current(shop):
    write(shop, EVENTS.replace("total: Money", "total: Money\n    note: str = ''"))
    done = check(shop, "--exact")
    assert done.returncode == 1
    assert b"eventbraid schema dump --app shop.events --output s.json" in done.stdout
    first, *rest = json_lines(check(shop, "--exact", "--json").stdout)
    assert (first["kind"], [one["kind"] for one in rest]) == (
        "not_current",
        ["field_added"],
    )


def test_a_version_without_an_upcaster_ends_with_1(shop):
    write(shop, EVENTS.replace('"order.placed"', '"order.placed", version=2'))
    done = check(shop)
    assert done.returncode == 1
    assert b"@upcaster('order.placed', from_version=1)" in done.stdout
    assert [one["kind"] for one in json_lines(check(shop, "--json").stdout)] == [
        "registry_invalid",
        "version_added",
    ]
    # A dump of events that can't all be read would record the mistake.
    dump = ran("schema", "dump", "--app", "shop.events", "--output", "t.json", cwd=shop)
    assert dump.returncode == 2
    assert b"@upcaster('order.placed', from_version=1)" in dump.stderr
    assert not (shop / "t.json").exists()


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("shop.nothing", b"there is no module 'shop.nothing'"),
        ("nothing.at.all", b"there is no module 'nothing'"),
        ("shop/events.py", b"name a module, not a file"),
        ("", b"is not the name of a module"),
        ("shop.events:nothing", b"there is no 'nothing' in shop.events"),
        ("shop.events:Money", b"expected an EventRegistry"),
        ("shop.events:", b"there is no '' in shop.events"),
    ],
)
def test_an_unusable_app_ends_with_2(shop, app, reason):
    done = check(shop, app=app)
    assert done.returncode == 2
    assert reason in done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0", b"raises ZeroDivisionError"),
        ("import not_installed", b"raises ModuleNotFoundError"),
        ("raise SystemExit(0)", b"raises SystemExit"),
        ("import eventbraid as eb\neb.event('')", b"invalid event type ''"),
        (
            "import eventbraid as eb\n@eb.event('a')\nclass A:\n    x: 'Missing'\n",
            b"InvalidEventType: invalid event class 'A': ",
        ),
    ],
)
def test_a_module_that_fails_ends_with_2(shop, text, reason):
    write(shop, text)
    done = check(shop)
    assert done.returncode == 2
    assert reason in done.stderr


def test_two_registries_are_refused(shop):
    done = check(shop, "--app", "shop.events:registry")
    assert done.returncode == 2
    assert b"different registries" in done.stderr


@pytest.mark.parametrize("text", ["", "{}", "\x00", '{"eventbraid-schema": 9}'])
def test_another_file_ends_with_2(shop, text):
    (shop / "s.json").write_text(text)
    done = check(shop)
    assert done.returncode == 2
    assert b"is not a schema file" in done.stderr


def test_missing_arguments_end_with_2(shop):
    for arguments in (["schema", "check"], ["schema", "dump"], ["schema", "x"]):
        assert ran(*arguments, cwd=shop).returncode == 2
    (shop / "s.json").unlink()
    assert check(shop).returncode == 2


def test_a_file_that_cant_be_written_ends_with_3(shop):
    done = ran(
        "schema", "dump", "--app", "shop.events", "--output", "no/s.json", cwd=shop
    )
    assert done.returncode == 3
