"""The fixtures of the pytest plugin need no configuration, and disturb no other project.

pytest imports the plugin in each test run of an environment in which Eventbraid is
installed, also for projects that don't use it.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from textwrap import dedent

import pytest

import eventbraid


@pytest.fixture
def run(tmp_path, repository):
    """A function that runs pytest on some test modules, with the plugin installed."""
    paths = [str(tmp_path / "project")]
    declared = tomllib.loads((repository / "pyproject.toml").read_text())["project"][
        "entry-points"
    ]["pytest11"]
    installed = importlib.metadata.entry_points(group="pytest11")
    if not any(one.name in declared for one in installed):
        # An environment that was made before the entry point was declared: the same
        # declaration in a distribution of its own.
        info = tmp_path / "site" / "eventbraid_plugin-0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: eventbraid-plugin\nVersion: 0\n"
        )
        lines = [f"{name} = {module}" for name, module in declared.items()]
        (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]) + "\n")
        paths.append(str(info.parent))

    def run_pytest(*options, **modules):
        project = tmp_path / "project"
        project.mkdir(exist_ok=True)
        (project / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        for name, text in modules.items():
            (project / f"{name}.py").write_text(dedent(text))
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
            cwd=project,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run_pytest


COMMANDS = """
    import eventbraid as eb

    @eb.event("fixture.lamp.lit")
    class Lit: ...

    class Lamp(eb.Stream[Lit], category="lamp"): ...

    class Light(eb.Command):
        lamp: eb.Declared[Lamp]

        def decide(self):
            yield self.lamp.write(Lit())
"""


def test_the_fixtures_are_there_without_configuration(run):
    tests = """
        import eventbraid as eb
        import pytest
        from lamps import Light

        def test_a_store_is_empty_and_open(store):
            assert store.head() == 0
            store.append([("lamp-1", "x", b"")])

        def test_each_test_has_its_own(store):
            assert store.head() == 0

        def test_an_executor_uses_the_store(executor, store):
            executor.execute(Light(lamp="lamp-1"))
            assert store.version("lamp-1") == 1

        @pytest.mark.anyio
        async def test_the_store_can_be_awaited(async_store, executor):
            done = await eb.AsyncExecutor(async_store).execute(Light(lamp="lamp-1"))
            assert done.versions == {"lamp-1": 1}
            assert [one.stream async for one in async_store.read_all()] == ["lamp-1"]

        @pytest.mark.anyio
        async def test_a_subscription_may_be_open_at_the_end(async_store):
            await async_store.append([("lamp-1", "x", b"")])
            subscription = async_store.subscribe()
            assert (await anext(aiter(subscription))).stream == "lamp-1"
    """
    done = run(lamps=COMMANDS, test_lamps=tests)
    # Two tests on asyncio and on trio each.
    assert "7 passed" in done.stdout, done.stdout + done.stderr


def test_fixtures_of_the_project_take_precedence(run):
    tests = """
        import pytest

        @pytest.fixture
        def store():
            return "a shop"

        @pytest.fixture
        def executor(store):
            return f"of {store}"

        def test_it(store, executor):
            assert (store, executor) == ("a shop", "of a shop")
    """
    conftest = """
        import pytest

        @pytest.fixture
        def async_store():
            return "another shop"
    """
    other = "def test_other(async_store): assert async_store == 'another shop'"
    done = run(test_shop=tests, conftest=conftest, test_other=other)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_run_without_the_fixtures_does_not_import_the_library(run):
    tests = """
        import sys

        def test_it():
            assert "eventbraid_pytest" in sys.modules
            assert not {"eventbraid", "msgspec", "orjson", "anyio"} & sys.modules.keys()
    """
    done = run("-p", "no:anyio", "-p", "no:hypothesispytest", test_it=tests)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_library_may_be_imported_before_pytest(run, tmp_path):
    """pytest warns of modules that it can't rewrite any more, which may be an error."""
    done = run(test_it="def test_it(store): assert store.head() == 0")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    program = "import eventbraid, pytest, sys; sys.exit(pytest.main(['-q']))"
    again = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path / "project",
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        check=False,
    )
    assert "1 passed" in again.stdout, again.stdout + again.stderr


def test_the_plugin_stands_beside_the_package():
    import eventbraid_pytest

    assert {"store", "executor", "async_store"} <= vars(eventbraid_pytest).keys()
    assert not hasattr(eventbraid, "pytest")
