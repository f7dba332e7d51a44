"""The package works after it was imported again in the same process.

The hazard: `coverage run --source=shop.orders` imports `shop`, and with it this package,
to find its modules, and then removes both from `sys.modules`. The extension module stays
in the process. Its exceptions would be those of the first import, which no `except` of
the program catches.
"""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

PROGRAM = """
import sys

import eventbraid

first, first_exists = eventbraid.errors.InvalidStreamId, eventbraid.EXISTS
with eventbraid.open("memory:") as before:
    for name in [name for name in sys.modules if name.split(".")[0] == "eventbraid"]:
        if name != "eventbraid._native" or {unload_native}:
            del sys.modules[name]

    import eventbraid as eb

    assert eb.errors.InvalidStreamId is not first

    def raised(kind, call):
        try:
            call()
        except kind as error:
            return error
        raise AssertionError("nothing was raised")

    with eb.open("memory:") as store:
        raised(eb.errors.InvalidStreamId, lambda: store.version(""))
        raised(eb.errors.LimitExceeded, lambda: store.append([("a", "x", bytes(9 << 20))]))
        store.append([("a", "x", b"1")], expect={{"a": eb.NO_STREAM}})
        store.append([("a", "x", b"2")], expect={{"a": eb.EXISTS, "b": eb.ANY}})
        conflict = raised(
            eb.VersionConflict,
            lambda: store.append([("a", "x", b"")], expect={{"a": eb.NO_STREAM}}),
        )
        [failure] = conflict.failures
        assert type(failure) is eb.errors.ConflictedStream
        assert failure.expected is eb.NO_STREAM
        store.append([("a", "x", b"3")], idempotency_key="k")
        raised(
            eb.errors.IdempotencyMismatch,
            lambda: store.append([("a", "x", b"4")], idempotency_key="k"),
        )
    raised(eb.errors.StoreClosed, lambda: store.head())
    assert before.version("a") == 0
    # The store of the first import still accepts the conditions of both.
    before.append([("a", "x", b"1")], expect={{"a": eb.NO_STREAM}})
    before.append([("a", "x", b"2")], expect={{"a": first_exists}})
print("works")
"""


@pytest.mark.parametrize("unload_native", [False, True])
def test_the_errors_of_a_second_import_can_be_caught(unload_native: bool) -> None:
    program = dedent(PROGRAM).format(unload_native=unload_native)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "works\n", "")
