"""`import eventbraid` is cheap: it loads the layers that are used, when they are used.

A library that doubles the start of every script and every test run is one that people
import late, in functions, or not at all.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import eventbraid

BASE = "import asyncio, anyio, msgspec, orjson"
LIMIT = 1.3
ROUNDS = 9

# Needed by the command line, by an extra, or by a layer that the import must not load.
NOT_LOADED = (
    "anyio",
    "asyncio",
    "attrs",
    "click",
    "eventbraid.cli",
    "eventbraid.command",
    "eventbraid.examples",
    "eventbraid.lease",
    "eventbraid.saga",
    "eventbraid.store",
    "eventbraid.testing",
    "pydantic",
    "pytest",
    "rich",
    "sqlite3",
    "starlette",
    "trio",
    "uvicorn",
    "uvloop",
)
ABOVE = ("eventbraid.cli", "eventbraid.examples", "eventbraid.testing")
FOR_THE_COMMAND_LINE = ("click", "rich", "starlette", "uvicorn")


def run(code: str, **options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | options,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_loaded_by(code: str) -> set[str]:
    return set(
        json.loads(run(f"{code}\nimport json, sys\nprint(json.dumps([*sys.modules]))"))
    )


def loaded_of(modules: set[str], packages: tuple[str, ...]) -> set[str]:
    return {
        module
        for module in modules
        if any(f"{module}.".startswith(f"{package}.") for package in packages)
    }


def test_the_import_loads_neither_an_event_loop_nor_the_upper_layers():
    assert loaded_of(modules_loaded_by("import eventbraid"), NOT_LOADED) == set()


def test_no_public_name_loads_examples_command_line_or_suites():
    use_all = "import eventbraid as eb\nfor name in eb.__all__: getattr(eb, name)"
    modules = modules_loaded_by(use_all)
    assert "eventbraid.saga" in modules
    assert loaded_of(modules, (*ABOVE, *FOR_THE_COMMAND_LINE)) == set()


def test_a_program_that_only_appends_loads_no_sagas():
    modules = modules_loaded_by("import eventbraid as eb; eb.open('memory:').close()")
    assert "eventbraid.store" in modules
    upper = ("eventbraid.command", "eventbraid.lease", "eventbraid.saga")
    assert loaded_of(modules, upper) == set()


def processor_seconds(code: str, cache: Path) -> float:
    """Processor time of a process that runs the code, with compiled modules cached.

    Processor time, not elapsed time: what else the machine does counts for less.
    """
    measured = (
        f"{code}\n"
        "import resource\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(used.ru_utime + used.ru_stime)"
    )
    return float(
        run(measured, PYTHONPYCACHEPREFIX=str(cache), PYTHONDONTWRITEBYTECODE="")
    )


@pytest.mark.timeout(120)
def test_the_import_takes_little_more_than_its_dependencies(tmp_path):
    """Both in turn, so that a machine that slows down slows both."""
    programs = (BASE, "import eventbraid")
    for program in programs:
        processor_seconds(program, tmp_path)
    base, ours = (
        statistics.median(times)
        for times in zip(
            *(
                [processor_seconds(program, tmp_path) for program in programs]
                for _ in range(ROUNDS)
            ),
            strict=True,
        )
    )
    assert ours <= LIMIT * base, f"{ours * 1e3:.0f} ms against {base * 1e3:.0f} ms"


def test_each_name_is_the_one_that_type_checkers_are_shown():
    shown = {
        alias.name: node.module
        for node in ast.walk(ast.parse(Path(eventbraid.__file__).read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module not in {"__future__", "typing", "eventbraid"}
        for alias in node.names
    }
    del shown["lazy_names"]
    assert shown.keys() == set(eventbraid.__all__)
    for name, module in shown.items():
        defined = getattr(importlib.import_module(module), name)
        assert getattr(eventbraid, name) is defined, name


def test_the_event_decorator_is_no_module_whatever_is_imported_first():
    for first in ("import eventbraid.event", "import eventbraid.saga", "eb.Command"):
        code = f"import eventbraid as eb\n{first}\nprint(eb.event.__qualname__)"
        assert run(code) == "event\n", first


def test_layers_are_attributes_without_an_import_of_their_own():
    assert run("import eventbraid as eb\nprint(eb.saga.Saga.__name__)") == "Saga\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        eventbraid.nope  # noqa: B018


def test_events_of_layers_that_are_not_loaded_decode():
    code = """
import eventbraid as eb
with eb.open("memory:") as store:
    store.append([("x-1", "lease.released", b'{"holder": "1"}')])
    [recorded] = store.read_stream("x-1")
    print(type(eb.decode_event(recorded)).__module__)
"""
    assert run(code).startswith("eventbraid.lease")


@pytest.mark.parametrize("name", ["saga.started", "lease.acquired"])
def test_types_of_layers_that_are_not_loaded_are_refused_to_other_classes(name):
    code = f"""
import eventbraid as eb
try:
    @eb.event("{name}")
    class Mine: ...
except eb.errors.InvalidEventType as error:
    print(error)
"""
    assert "already registered" in run(code)
