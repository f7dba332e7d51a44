"""The library logs below ``eventbraid``, one logger a layer, and is silent by default.

A library that configures logging, or that prints unasked, takes away what is
the application's to decide.
"""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

import eventbraid as eb
from eventbraid.testing import Conflict, FaultyStore
from tests.commands import Deposit, Deposited, Money, raw

QUIET = """
import logging
before = dict(vars(logging.getLogger())), logging.root.handlers[:]
import eventbraid as eb
from eventbraid._logging import SAGA
SAGA.error("nobody asked for this")
assert logging.root.handlers == before[1]
assert logging.getLogger().level == before[0]["level"]
assert logging.getLogger("eventbraid").level == logging.NOTSET
"""


def test_nothing_is_printed_and_nothing_is_configured_by_the_import():
    program = subprocess.run(
        [sys.executable, "-c", QUIET],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (program.returncode, program.stdout, program.stderr) == (0, "", "")


def test_a_command_that_gives_up_is_reported_with_its_traceback(caplog):
    with eb.open("memory:") as store:
        rival = raw("account-a", Deposited(Money(1)))
        busy = FaultyStore(store, Conflict(by=[rival], times=2))
        executor = eb.Executor(busy, retry=eb.RetryPolicy(maximum_attempts=2))
        with (
            caplog.at_level(logging.DEBUG, "eventbraid"),
            pytest.raises(eb.errors.RetriesExhausted),
        ):
            executor.execute(Deposit(account="account-a", amount=Money(1)))
    reported = [one for one in caplog.records if one.name == "eventbraid.command"]
    assert [one.levelname for one in reported] == ["DEBUG", "DEBUG", "WARNING"]
    assert "Deposit failed in each of 2 attempts" in reported[-1].message
    assert reported[-1].exc_info[0] is eb.VersionConflict


def test_a_lease_and_a_store_are_reported(caplog, tmp_path):
    with (
        caplog.at_level(logging.DEBUG, "eventbraid"),
        eb.open(tmp_path / "shop.braid") as store,
        eb.Lease(store, "billing"),
    ):
        pass
    assert [(one.name, one.levelname) for one in caplog.records] == [
        ("eventbraid.store", "DEBUG"),
        ("eventbraid.lease", "INFO"),
    ]
