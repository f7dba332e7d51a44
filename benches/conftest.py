"""Options and reporting of the benchmark suite."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from eventbraid.cli.bench._machine import describe_machine

MEASUREMENTS = pytest.StashKey[list[str]]()


def pytest_addoption(parser):
    group = parser.getgroup("eventbraid")
    group.addoption(
        "--assert-floors",
        action="store_true",
        help="fail where a row is below its floor; for a quiet machine",
    )
    group.addoption(
        "--disk",
        type=Path,
        default=None,
        help="a directory on the disk to be measured (default: target/)",
    )
    group.addoption(
        "--seconds",
        type=float,
        default=10.0,
        help="seconds for which each row is measured, baselines included",
    )


def pytest_configure(config):
    config.stash[MEASUREMENTS] = []


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash[MEASUREMENTS]
    if lines:
        terminalreporter.section("durable work next to its baselines")
        terminalreporter.write_line(describe_machine(disk_of(config)))
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def disk(request):
    """An empty directory on a real disk: /tmp may be memory, where syncing is free."""
    parent = disk_of(request.config)
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def measured(request, benchmark, disk):
    """Run a measuring function once, record its numbers, and check its floors.

    The floors are the row's targets and, if given, the condition `check`.
    """

    def measure(function, check=None, *, moment=0.5):
        seconds = moment if benchmark.disabled else request.config.option.seconds
        row = benchmark.pedantic(
            function, args=(disk,), kwargs={"seconds": seconds}, iterations=1, rounds=1
        )
        benchmark.extra_info.update(row.numbers())
        request.config.stash[MEASUREMENTS].extend(row.lines())
        if request.config.option.assert_floors:
            is_met = (check is None or check(row)) and all(
                target.met for target in row.targets
            )
            assert is_met, "\n".join(row.lines())
        return row

    return measure


def disk_of(config) -> Path:
    return config.option.disk or config.rootpath / "target"
