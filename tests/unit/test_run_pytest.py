"""A failing test is repeated alone; its run succeeds only if all repetitions pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "run_pytest.py"

# A test that fails at the calls whose numbers it is given: the first call is number 1.
PROGRAM = """
    from pathlib import Path
    import pytest

    class Final(AssertionError):
        is_final = True

    def fails_at(*numbers, error=AssertionError):
        calls = Path(__file__).with_suffix(".calls")
        count = len(calls.read_text()) + 1 if calls.exists() else 1
        calls.write_text("x" * count)
        if count in numbers:
            raise error(f"call {count}")
"""


@pytest.fixture
def run(tmp_path):
    def run(program):
        path = tmp_path / "test_one.py"
        lines = (PROGRAM + program).splitlines()
        path.write_text("\n".join(line.removeprefix("    ") for line in lines))
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        done = subprocess.run(
            [
                *(sys.executable, str(SCRIPT), "-q", "--tb=short"),
                *("-p", "no:cacheprovider", str(path)),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout

    return run


def test_a_run_without_failures_repeats_nothing(run):
    code, output = run("""
    def test_it():
        fails_at()
    """)
    assert code == 0
    assert "repetition" not in output


def test_a_test_that_fails_once_and_then_always_passes_is_reported_as_unsteady(run):
    code, output = run("""
    def test_it():
        fails_at(1)
    """)
    assert code == 0
    assert "UNSTEADY: failed once, then passed 10 times alone:" in output
    assert "test_one.py::test_it" in output.split("UNSTEADY")[1]


@pytest.mark.parametrize("again", [2, 11])
def test_a_test_that_fails_again_in_any_repetition_fails_the_run(run, again):
    code, output = run(f"""
    def test_it():
        fails_at(1, {again})
    """)
    assert code == 1
    assert "UNSTEADY" not in output
    assert f"repetition {again - 1} of" in output


def test_a_repetition_has_the_options_of_the_run(run):
    code, output = run("""
    def test_it(request):
        fails_at(1)
        assert request.config.getoption("tbstyle") == "short"
        assert not request.config.pluginmanager.has_plugin("cacheprovider")
    """)
    assert code == 0
    assert "UNSTEADY" in output


def test_a_fixture_that_fails_at_the_end_counts_as_a_failure(run):
    code, output = run("""
    @pytest.fixture
    def unclean():
        yield
        fails_at(1, 3)

    def test_it(unclean):
        pass
    """)
    assert code == 1
    assert "repetition 2 of" in output


def test_a_broken_promise_is_never_repeated(run):
    code, output = run("""
    def test_it():
        fails_at(1, error=Final)
    """)
    assert code == 1
    assert (
        "not repeated, because a promise was broken: ['test_one.py::test_it']" in output
    )


def test_many_failures_are_not_repeated(run):
    code, output = run("""
    @pytest.mark.parametrize("number", range(4))
    def test_it(number):
        fails_at(1, 2, 3, 4)
    """)
    assert code == 1
    assert "not repeated: 4 tests failed" in output


def test_an_error_outside_the_tests_keeps_its_exit_code(run):
    code, output = run("""
    import no_such_module
    """)
    assert code == pytest.ExitCode.INTERRUPTED
    assert "repetition" not in output
