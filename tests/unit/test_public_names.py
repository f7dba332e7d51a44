"""The public face: what `eventbraid` exports is what it says, and each name is shown.

A name that leaks is a name that users depend on; a name without an example is one that
they use wrongly.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import types
import typing

import pytest

import eventbraid

LAYERS = {
    name: importlib.import_module(f"eventbraid.{name}")
    for name in ("errors", "domain", "event", "store", "command", "lease", "saga")
}
PUBLIC = {
    f"{layer}.{name}": getattr(module, name)
    for layer, module in LAYERS.items()
    for name in module.__all__
}
DOCUMENTED = sorted(
    path
    for path, public in PUBLIC.items()
    # A type alias has the docstring of its kind of alias.
    if callable(public) and typing.get_origin(public) is None
)

ABOVE_THE_FACE = (
    "eventbraid.cli",
    "eventbraid.examples",
    "eventbraid.testing",
    "eventbraid.web",
)
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(eventbraid.__path__, "eventbraid.")
    if module.name.startswith(ABOVE_THE_FACE)
)


def test_all_and_the_exported_names_agree():
    exported = {
        name
        for name in dir(eventbraid)
        if not name.startswith("_")
        and not isinstance(getattr(eventbraid, name), types.ModuleType)
    }
    # What the module's own code imports.
    exported -= {"TYPE_CHECKING", "annotations", "lazy_names"}
    assert set(eventbraid.__all__) == exported


def test_a_name_of_a_layer_is_not_at_the_top():
    for name in ("StorageFull", "SagaStatus", "LocalStep"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(eventbraid, name)


def test_the_top_exports_what_programs_use_daily():
    """At most 60 names, without the layers themselves."""
    assert len(eventbraid.__all__) == len(set(eventbraid.__all__)) <= 60


def test_a_public_name_has_one_path_below_the_top():
    names = [path.partition(".")[2] for path in PUBLIC]
    assert len(names) == len(set(names))
    assert set(eventbraid.__all__) <= set(names)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_is_documented_with_an_example(name):
    text = inspect.getdoc(PUBLIC[name]) or ""
    assert text.strip(), f"eventbraid.{name} has no docstring"
    assert ">>> " in text or "```python" in text or "Example" in text, (
        f"the docstring of eventbraid.{name} shows no example"
    )


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_of_a_public_name_run(name, tmp_path, monkeypatch):
    """Its own and its methods', with nothing at hand but `eb`."""
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder().find(
        PUBLIC[name], name, module=False, globs={"eb": eventbraid}
    )
    run_examples(found)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_above_the_face_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    run_examples(doctest.DocTestFinder().find(module, name))


def run_examples(found: list[doctest.DocTest]) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report: list[str] = []
    for test in found:
        doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    assert not report, "".join(report)


def test_importing_changes_nothing_in_the_process(tmp_path):
    """No threads, no signal handlers, no files, no logging set-up."""
    probe = """
import logging, os, signal, threading
handlers = {s: signal.getsignal(s) for s in signal.valid_signals()}
import eventbraid
assert threading.active_count() == 1, threading.enumerate()
assert len(os.listdir("/proc/self/task")) == 1
assert handlers == {s: signal.getsignal(s) for s in signal.valid_signals()}
assert not logging.getLogger().handlers
assert not os.listdir(".")
"""
    subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, check=True, env=os.environ.copy()
    )


def test_the_names_for_testing_are_what_they_say():
    import eventbraid.testing

    exported = {
        name
        for name, value in vars(eventbraid.testing).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    # What the module's own code imports.
    exported -= {"TYPE_CHECKING", "annotations", "import_module"}
    # The suites are not in the module's dictionary before their first use.
    assert exported <= set(eventbraid.testing.__all__)
    for name in eventbraid.testing.__all__:
        assert ">>> " in (inspect.getdoc(getattr(eventbraid.testing, name)) or "")


def test_the_names_of_the_web_integration_have_examples():
    import eventbraid.web

    exported = {
        name
        for name, value in vars(eventbraid.web).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    # What the module's own code imports.
    exported -= {"annotations", "import_module"}
    assert exported == set(eventbraid.web.__all__)
    assert exported.isdisjoint(name.partition(".")[2] for name in PUBLIC)
    for name in eventbraid.web.__all__:
        assert ">>> " in (inspect.getdoc(getattr(eventbraid.web, name)) or "")


def test_without_starlette_the_web_integration_names_what_to_install():
    probe = """
import sys
sys.modules["starlette"] = None
try:
    import eventbraid.web
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert "pip install 'eventbraid[web]'" in done.stdout


def test_without_pytest_the_package_works_and_its_suites_say_what_to_install():
    probe = """
import sys
sys.modules["pytest"] = None
import eventbraid
with eventbraid.open("memory:") as store:
    assert store.head() == 0
import eventbraid.testing
try:
    eventbraid.testing.StoreContract
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert "pip install 'eventbraid[testing]'" in done.stdout
