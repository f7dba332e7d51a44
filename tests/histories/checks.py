"""All checks of a history against the log that it led to."""

from __future__ import annotations

from tests.histories.check_cycles import check_cycles
from tests.histories.check_delivery import check_delivery
from tests.histories.check_keys import check_keys
from tests.histories.check_log import check_log
from tests.histories.check_order import check_order
from tests.histories.check_streams import check_streams
from tests.histories.check_waits import check_waits
from tests.histories.history import Finding, History
from tests.histories.log import Log


def check(history: History, log: Log) -> list[Finding]:
    """Find every violation of a promise of the store."""
    return [
        *check_log(history, log),
        *check_order(history, log),
        *check_streams(history, log.contents),
        *check_cycles(history, log),
        *check_delivery(history, log),
        *check_keys(history, log),
        *check_waits(history, log),
    ]


class BrokenPromiseError(AssertionError):
    """A history of a correct store that breaks a promise: one is proof, however rare.

    Attributes:
        is_final: The test must not be repeated until it passes.
    """

    is_final = True


def require_consistent(history: History, log: Log) -> None:
    """Raise `BrokenPromiseError` if the history violates a promise of the store."""
    if findings := check(history, log):
        raise BrokenPromiseError("\n".join(map(str, findings)))
