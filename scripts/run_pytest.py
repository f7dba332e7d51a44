"""Runs pytest and repeats what failed: `python scripts/run_pytest.py [ARGUMENT...]`.

Thousands of tests start processes, kill them and measure times, on machines that can
stand still for a second. If at most 3 tests fail, each of them is repeated 10 times, in
processes that run no other test. The run succeeds only if all repetitions pass. It then
lists these tests as unsteady. A test that has seen the store break a promise is not
repeated: one such history is proof, however rare it is.

The exit code is pytest's, or 0 if all repetitions passed.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

REPETITIONS = 10
MOST_REPEATED = 3


class FailedTests:
    """Collects the tests that failed in a run.

    Attributes:
        ids: Their ids, in the order of the run.
        final: The ids of the tests whose exception forbids a repetition.
        options: The arguments of the run that select no tests.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.final: list[str] = []
        self.options: list[str] = []

    def pytest_configure(self, config: pytest.Config) -> None:
        """Note the options: a repetition without them would be another test."""
        given = config.invocation_params.args
        self.options = [str(one) for one in given if one not in config.args]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note the test if its set-up, its call or its clean-up failed."""
        report = yield
        if report.failed and item.nodeid not in self.ids:
            self.ids.append(item.nodeid)
        if report.failed and getattr(call.excinfo.value, "is_final", False):
            self.final.append(item.nodeid)
        return report


def main(arguments: list[str]) -> int:
    """Run pytest, repeat what failed, and return the exit code."""
    failed = FailedTests()
    code = int(pytest.main(arguments, plugins=[failed]))
    if code != pytest.ExitCode.TESTS_FAILED:
        return code
    if failed.final:
        print(f"\nnot repeated, because a promise was broken: {failed.final}")
        return code
    if not 0 < len(failed.ids) <= MOST_REPEATED:
        print(f"\nnot repeated: {len(failed.ids)} tests failed")
        return code
    for test in failed.ids:
        if not passes_every_time(test, failed.options):
            return code
    print(f"\nUNSTEADY: failed once, then passed {REPETITIONS} times alone:")
    for test in failed.ids:
        print(f"  {test}")
    return 0


def passes_every_time(test: str, options: list[str]) -> bool:
    """Repeat a test until it fails, and return whether it never did."""
    for repetition in range(1, REPETITIONS + 1):
        print(f"\n==> repetition {repetition} of {test}", flush=True)
        command = [sys.executable, "-m", "pytest", *options, test]
        if subprocess.run(command, check=False).returncode:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
