"""No command starves, and no append waits for a reservation whose holder can't run.

The hazard: a command that takes longer to fold its streams than others take to append
to them conflicts each time; and what holds the others back meanwhile outlives the
command's process.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

import eventbraid as eb
from eventbraid.command import _execution
from eventbraid.command._execution import CONFLICTS_BEFORE_RESERVING
from eventbraid.command._queue import StreamQueues
from eventbraid.store._reservation import LONGEST_SECONDS
from tests.commands import Account, AccountEvent, Deposited, Money, raw

if TYPE_CHECKING:
    from collections.abc import Iterator

A = "account-a"
LONG = 5_000
COMMANDS = 10
SOON = 30.0
"""Seconds: what a busy machine may add to a wait."""
TRIES = 5


class Fold(eb.StatefulCommand[list[int], AccountEvent]):
    """Folds into a list that its decision changes, so each attempt folds all events."""

    account: eb.Declared[Account]

    def initial(self):
        return []

    def apply(self, state, recorded, /):
        state.append(recorded.version)
        return state

    def decide(self, state, /):
        # Longer than an append on the fastest disk.
        time.sleep(0.01)
        assert state == list(range(1, len(state) + 1))
        state.clear()
        yield self.account.write(Deposited(Money(1)))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "starving.braid"
    with eb.open(path) as store:
        store.append([raw(A, Deposited(Money(1))) for _ in range(LONG)])
    return path


@contextmanager
def rival(part: str, path: object) -> Iterator[subprocess.Popen[str]]:
    """Start another process, and wait until it has begun."""
    command = [sys.executable, "-m", "tests.failure.starvation_rival"]
    with subprocess.Popen(
        [*command, part, str(path), A],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("ready")
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(240)
def test_a_command_that_folds_a_long_stream_succeeds_next_to_a_process_that_appends(
    path,
):
    with eb.open(path) as store, rival("append", path) as process:
        executor = eb.Executor(store)
        done = []
        # The other process has its turns, too: it appends more often than this one.
        while len(done) < COMMANDS or store.version(A) <= LONG + 2 * len(done):
            done.append(executor.execute(Fold(account=A)))
        report, _ = process.communicate(timeout=60)
        appended, longest = report.split()
        assert store.version(A) == LONG + len(done) + int(appended)
    assert max(one.attempts for one in done) <= 10
    # No append waited without a limit.
    assert float(longest) < LONGEST_SECONDS + SOON


@pytest.mark.timeout(240)
def test_a_command_succeeds_next_to_a_thread_that_appends_in_the_same_process():
    ended = threading.Event()
    with eb.open("memory:") as store:
        store.append([raw(A, Deposited(Money(1))) for _ in range(LONG)])

        def append() -> None:
            while not ended.is_set():
                version = store.version(A)
                with suppress(eb.VersionConflict):
                    store.append([raw(A, Deposited(Money(1)))], expect={A: version})

        thread = threading.Thread(target=append)
        thread.start()
        try:
            executor = eb.Executor(store)
            for _ in range(COMMANDS):
                executor.execute(Fold(account=A))
        finally:
            ended.set()
            thread.join()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"]
)
def test_a_reservation_of_a_process_that_cannot_run_delays_no_append_for_long(
    path, number
):
    waits = []
    with eb.open(path) as store:
        for _ in range(TRIES):
            with rival("hold", path) as process:
                assert store.coordination.reserve([A], 1.0) is None
                process.send_signal(number)
                began = time.monotonic()
                store.append([raw(A, Deposited(Money(1)))])
                waits.append(time.monotonic() - began)
                assert waits[-1] < LONGEST_SECONDS + SOON
                eb.Executor(store).execute(Fold(account=A))
            # The reservation of a dead holder ends at once, that of a stopped one at its
            # time. One quick append proves it: else each would wait for that time.
            if number == signal.SIGSTOP or waits[-1] < LONGEST_SECONDS / 2:
                break
        else:
            pytest.fail(f"each append waited for the dead holder: {waits}")


class Pay(eb.StatefulCommand[None, AccountEvent]):
    account: eb.Declared[Account]
    amount: int
    interfere: Callable[[], object]

    def initial(self): ...
    def apply(self, state, recorded, /): ...
    def decide(self, state, /):
        self.interfere()
        yield self.account.write(Deposited(Money(self.amount)))


class ObservedQueues(StreamQueues):
    """Records the threads that have joined a queue."""

    __slots__ = ()
    joined = threading.Event()

    def join(self, stream, place, now):
        seconds = super().join(stream, place, now)
        if threading.current_thread() is not threading.main_thread():
            self.joined.set()
        return seconds


def test_a_command_with_a_reservation_waits_for_no_turn_of_a_command_that_it_delays(
    monkeypatch,
):
    """Both would wait until the reservation ends, which may take seconds.

    The append of the second command waits for the reservation of the first, while the
    second command has the turn.
    """
    # As long as it is for a command whose attempts take seconds.
    monkeypatch.setattr(_execution, "TURN_SECONDS", 2 * SOON)
    attempts = itertools.count(1)
    last = CONFLICTS_BEFORE_RESERVING + 1

    def disturb():
        attempt = next(attempts)
        if attempt == 1:
            # The reservation lasts four times as long as the longest attempt.
            time.sleep(0.5)
        if attempt <= last:
            store.append([raw(A, Deposited(Money(1)))])
        if attempt == last:
            # This attempt has the reservation, and a conflict all the same: the append
            # of the other writer may have begun before the reservation.
            other.start()
            assert ObservedQueues.joined.wait(SOON)

    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        queues, _ = executor._engine._shared.get()
        queues.__class__ = ObservedQueues
        second = Pay(account=A, amount=200, interfere=lambda: None)
        other = threading.Thread(target=executor.execute, args=[second])
        executor.execute(Pay(account=A, amount=100, interfere=disturb))
        other.join(SOON)
        events = [eb.decode_event(one) for one in store.read_stream(A)]
    assert [int(event.amount) for event in events] == [1] * last + [100, 200]
