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

DOCUMENTED = sorted(
    name
    for name in eventbraid.__all__
    if inspect.isclass(getattr(eventbraid, name)) or callable(getattr(eventbraid, name))
    # A type alias has the docstring of its kind of alias.
    if typing.get_origin(getattr(eventbraid, name)) is None
)

ABOVE_THE_FACE = ("eventbraid.cli", "eventbraid.examples", "eventbraid.testing")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(eventbraid.__path__, "eventbraid.")
    if module.name.startswith(ABOVE_THE_FACE)
)


def docstring_of(name: str) -> str:
    return inspect.getdoc(getattr(eventbraid, name)) or ""


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


@pytest.mark.parametrize(
    ("former", "name"),
    [
        ("AsyncRole", "AsyncLease"),
        ("Ended", "SagaResult"),
        ("Role", "Lease"),
        ("RoleBusy", "LeaseHeld"),
        ("RoleLost", "LeaseLost"),
        ("SagaParked", "SagaBlocked"),
        ("StoreMember", "StoreSession"),
        ("Verified", "VerifyReport"),
    ],
)
def test_a_former_name_can_still_be_used(former, name):
    assert getattr(eventbraid, former) is getattr(eventbraid, name)
    assert former not in eventbraid.__all__


def test_the_former_form_of_a_declared_stream_can_still_be_used():
    @eventbraid.event("test_public_names.raised")
    class Raised: ...

    class Counter(eventbraid.Stream[Raised], category="counter"): ...

    class Raise(eventbraid.Command[int, Raised]):
        counter: eventbraid.Declared[Raised] = eventbraid.stream(Counter)
        others: eventbraid.DeclaredMany[Raised] = eventbraid.streams(Counter)

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            return state + 1

        def decide(self, state, /):
            yield self.counter.write(Raised())

    with pytest.raises(TypeError, match="counter"):
        Raise(others=[])
    with eventbraid.open("memory:") as store:
        command = Raise(counter="counter-1", others=["counter-2"])
        assert eventbraid.Executor(store).execute(command).versions == {"counter-1": 1}
    assert {"stream", "streams"}.isdisjoint(eventbraid.__all__)


def test_former_attributes_can_still_be_used(tmp_path):
    held = eventbraid.LeaseHeld("importer", "python", None, 1.5)
    lost = eventbraid.LeaseLost("importer", 3, 4)
    assert (held.role, held.silence, lost.role) == ("importer", 1.5, "importer")
    with eventbraid.open(tmp_path / "store.braid") as store:
        stats = store.stats()
    assert stats.members == stats.sessions
    assert stats.groups == stats.members[0].groups == stats.write_batches == 0


def test_all_is_free_of_repetition():
    assert len(eventbraid.__all__) == len(set(eventbraid.__all__))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_is_documented_with_an_example(name):
    text = docstring_of(name)
    assert text.strip(), f"eventbraid.{name} has no docstring"
    assert ">>> " in text or "```python" in text or "Example" in text, (
        f"the docstring of eventbraid.{name} shows no example"
    )


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_examples_of_a_public_name_run(name, tmp_path, monkeypatch):
    """Its own and its methods', with nothing at hand but `eb`."""
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder().find(
        getattr(eventbraid, name), name, module=False, globs={"eb": eventbraid}
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
    assert set(eventbraid.testing.__all__) == exported - {"annotations"}
    for name in eventbraid.testing.__all__:
        assert ">>> " in (inspect.getdoc(getattr(eventbraid.testing, name)) or "")


def test_without_pytest_the_package_works_and_its_suites_say_what_to_install():
    probe = """
import sys
sys.modules["pytest"] = None
import eventbraid
with eventbraid.open("memory:") as store:
    assert store.head() == 0
try:
    import eventbraid.testing
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert "pip install 'eventbraid[testing]'" in done.stdout
