"""Foreign programs damage the files by which processes share a store.

The hazard: a page of memory and a few lock files keep the processes apart, and any program
may delete, overwrite or replace them. Whatever it does while processes work: no commit is
lost or torn, no read is wrong, a refused call raises an error of its own class, and the
work continues after those processes have opened the store again.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import eventbraid as eb
from tests.histories.checks import require_consistent
from tests.histories.history import AppendDone, Delivered
from tests.histories.processes import ProcessGroup, StoreProcess, read_log
from tests.histories.program import Workload
from tests.histories.rust_examples import built
from tests.histories.stores import ENGINE, ON_LOOP

BOUND = 120.0
"""Seconds within which the work must continue; a process that doesn't is stuck for good."""

EXPECTED = {"StoreDetached", "StoreBusy", "StoreClosed", "OutcomeUnknown"}
PAGE = "coord.shm"
WORD = 8
DURABLE = 112
"""The word that numbers the record of what is durable."""

pytestmark = pytest.mark.timeout(600)


class Sabotage:
    """Processes that work on a store, and the checks after a damage."""

    def __init__(self, path: Path) -> None:
        self.path = path
        options = {"segment_size": 64 << 10, "lock_timeout": 1.0}
        self.group = ProcessGroup(
            Workload(
                name="p",
                store=ENGINE,
                path=str(path),
                seed=7,
                pause=0.002,
                options=options,
            )
        )

    def start(self) -> None:
        """Start one process with threads, one with an event loop, one that only follows."""
        self.group.start()
        self.group.start(store=ON_LOOP, threads=4)
        self.group.start(threads=0)
        self.await_work(time.monotonic_ns())

    def await_work(self, since: int) -> None:
        """Wait until each process has appended, or got, a new event."""
        waiting = list(self.group.processes)
        deadline = time.monotonic() + BOUND
        while waiting := [one for one in waiting if not has_worked(one, since)]:
            assert time.monotonic() < deadline, [
                (one.workload.name, one.lines()[-3:]) for one in waiting
            ]
            time.sleep(0.02)

    def check(self) -> set[str]:
        """End all processes, check their history, and return the classes of errors."""
        for process in self.group.processes:
            process.request_end()
        self.group.collect_all()
        assert self.group.failed == []
        log = read_log(self.group.workload)
        require_consistent(self.group.history, log)
        with eb.open(self.path) as store:
            assert store.verify().events == log.head
        return {trouble.kind for _, trouble in self.group.history.failures}


def has_worked(process: StoreProcess, since: int) -> bool:
    return any(
        isinstance(line, AppendDone | Delivered) and line.at > since
        for line in process.lines()
    )


@pytest.fixture
def sabotage(tmp_path):
    running = Sabotage(tmp_path / "store")
    yield running
    running.group.kill_all()


def overwrite(page: Path, data: bytes, at: int = 0) -> None:
    with page.open("r+b") as file:
        file.seek(at)
        file.write(data)


def delete(sabotage: Sabotage) -> None:
    (sabotage.path / PAGE).unlink()


def replace_by_a_copy(sabotage: Sabotage) -> None:
    store = sabotage.path
    copy = shutil.copy(store / PAGE, store / "copy")
    (store / PAGE).unlink()
    Path(copy).rename(store / PAGE)


def fill_with_noise(sabotage: Sabotage) -> None:
    overwrite(sabotage.path / PAGE, random.Random(7).randbytes(64 << 10))


def fill_with_zeros(sabotage: Sabotage) -> None:
    overwrite(sabotage.path / PAGE, bytes(64 << 10))


def restore_an_older_end(sabotage: Sabotage) -> None:
    # Only the end of the log: readers still find the durable end.
    with (sabotage.path / PAGE).open("r+b", buffering=0) as page:
        copy = os.pread(page.fileno(), 32 * WORD, 80 * WORD)
        # Two turns of each process: its appends of the second one began after the copy.
        for _ in range(2):
            sabotage.await_work(time.monotonic_ns())
        # More than once: the next writer records its own end over the older one.
        deadline = time.monotonic() + BOUND
        while not is_detected(sabotage.group.processes):
            assert time.monotonic() < deadline, "no process detected it"
            os.pwrite(page.fileno(), copy, 80 * WORD)
            time.sleep(0.005)


DETACHING: list[Callable[[Sabotage], None]] = [
    delete,
    replace_by_a_copy,
    fill_with_noise,
    fill_with_zeros,
    restore_an_older_end,
]


@pytest.mark.parametrize("harm", DETACHING, ids=lambda harm: harm.__name__)
def test_a_damaged_page_is_abandoned(sabotage, harm):
    sabotage.start()
    harm(sabotage)
    await_detached(sabotage.group.processes)
    sabotage.await_work(time.monotonic_ns())
    errors = sabotage.check()
    assert "StoreDetached" in errors
    assert errors <= EXPECTED


@pytest.mark.parametrize("lock", ["boot", "write", "sync", "maint", None])
def test_a_deleted_lock_file_is_detected(sabotage, lock):
    sabotage.start()
    locks = sabotage.path / "locks"
    if lock is None:
        shutil.rmtree(locks)
    else:
        (locks / f"{lock}.lock").unlink()
    # One process detects the deletion, and the others do so in their next wait.
    await_detached(sabotage.group.processes)
    sabotage.await_work(time.monotonic_ns())
    errors = sabotage.check()
    assert errors <= EXPECTED


def test_replaced_lock_files_are_detected(sabotage):
    sabotage.start()
    for lock in (sabotage.path / "locks").glob("*.lock"):
        other = lock.with_suffix(".new")
        other.touch()
        other.rename(lock)
    await_detached(sabotage.group.processes)
    sabotage.await_work(time.monotonic_ns())
    assert sabotage.check() <= EXPECTED


def await_detached(processes: list[StoreProcess]) -> None:
    deadline = time.monotonic() + BOUND
    while not is_detected(processes):
        assert time.monotonic() < deadline, "no process detected it"
        time.sleep(0.02)


def is_detected(processes: list[StoreProcess]) -> bool:
    return any(
        getattr(line, "kind", None) == "StoreDetached"
        for one in processes
        for line in one.lines()
    )


def test_any_words_of_the_page_may_be_overwritten_at_any_time(sabotage):
    sabotage.start()
    rng = random.Random(7)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        time.sleep(rng.uniform(0, 0.1))
        # The page does not exist while no process has the store open, which is frequent.
        if (sabotage.path / PAGE).exists():
            noise = rng.choice([bytes(WORD), rng.randbytes(WORD)])
            overwrite(sabotage.path / PAGE, noise, WORD * rng.randrange(208))
    sabotage.await_work(time.monotonic_ns())
    assert sabotage.check() <= EXPECTED | {"StorePoisoned"}


def test_a_truncated_page_ends_processes_and_loses_no_commit(sabotage):
    """A process that accesses the truncated memory dies; the others reopen the store."""
    sabotage.start()
    os.truncate(sabotage.path / PAGE, 0)
    deadline = time.monotonic() + BOUND
    group = sabotage.group
    while all(process.is_alive for process in group.processes):
        assert time.monotonic() < deadline, "no process accessed the page"
        time.sleep(0.01)
    since = time.monotonic_ns()
    while True:
        for process in [one for one in group.processes if not one.is_alive]:
            group.collect(process)
        if len(group.processes) < 3:
            group.start()
        elif all(has_worked(process, since) for process in group.processes):
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    bus_error = f"ended with {-signal.SIGBUS}"
    assert [failed for failed in group.failed if bus_error not in failed] == []
    group.failed.clear()
    assert sabotage.check() <= EXPECTED


def test_a_rust_program_detects_a_deleted_page_too(sabotage):
    process = sabotage.group.start(built("soak_member"))
    sabotage.group.start()
    sabotage.await_work(time.monotonic_ns())
    delete(sabotage)
    code = process.popen.wait(BOUND)
    assert code == 3
    assert "Detached" in sabotage.check()


ORIGIN = {"store": 3, "phase": 5, "file": 6, "root": 14}
"""Words that only a session reads that joins the others."""


@pytest.mark.parametrize("noise", [bytes(WORD), b"\xee" * WORD], ids=["zero", "noise"])
@pytest.mark.parametrize("word", ORIGIN.values(), ids=ORIGIN)
def test_a_page_that_no_session_can_join_is_abandoned(tmp_path, word, noise):
    """Otherwise the sessions would continue, and every other process would be shut out."""
    path = tmp_path / "store"
    store, other = eb.open(path), eb.open(path)
    other.append([("a", "x", b"")])
    overwrite(path / PAGE, noise, word * WORD)
    deadline = time.monotonic() + BOUND
    for one in (store, other):
        with pytest.raises(eb.errors.StoreDetached):
            while time.monotonic() < deadline:
                # An append that is in flight when the session stops may be in the log.
                with contextlib.suppress(eb.OutcomeUnknown):
                    one.append([("a", "x", b"")])
                time.sleep(0.02)
        with pytest.raises(eb.errors.StoreDetached):
            one.close()
    with eb.open(path) as store:
        assert store.verify().events == store.head() > 0


@pytest.mark.parametrize("noise", [bytes(WORD), b"\xee" * WORD], ids=["zero", "noise"])
@pytest.mark.parametrize("word", ORIGIN.values(), ids=ORIGIN)
def test_a_lone_session_abandons_a_page_that_no_session_can_join(tmp_path, word, noise):
    path = tmp_path / "store"
    deadline = time.monotonic() + BOUND
    with pytest.raises(eb.errors.StoreDetached), eb.open(path) as store:
        overwrite(path / PAGE, noise, word * WORD)
        while time.monotonic() < deadline:
            with contextlib.suppress(eb.OutcomeUnknown):
                store.append([("a", "x", b"")])
            time.sleep(0.02)
    with eb.open(path) as store:
        assert store.verify().events == store.head()


@pytest.fixture
def stale_session(tmp_path):
    """A session that has not read the commit of another one, and no longer can."""
    path = tmp_path / "store"
    store, other = eb.open(path), eb.open(path)
    other.append([("a", "x", b"1")])
    overwrite(path / PAGE, b"\xee" * WORD, DURABLE * WORD)
    yield store
    # The session that detects the damage notifies the other one. That one may not have
    # handled the notification yet, and its close needs nothing of the page.
    with pytest.raises(eb.errors.StoreDetached):
        other.append([("a", "x", b"2")])
    for one in (store, other):
        with pytest.raises(eb.errors.StoreDetached):
            one.close()


def test_a_head_that_may_be_stale_is_not_returned(stale_session):
    with pytest.raises(eb.errors.StoreDetached):
        stale_session.head()


@pytest.mark.anyio
async def test_a_head_that_may_be_stale_is_not_returned_on_an_event_loop(stale_session):
    with pytest.raises(eb.errors.StoreDetached):
        await stale_session.as_async().head()


@pytest.fixture
def stopped(tmp_path):
    """A session of a store of two events, next to one that detected the deletion."""
    path = tmp_path / "store"
    store, other = eb.open(path), eb.open(path)
    other.append([("a", "x", b"1"), ("a", "x", b"2")])
    (path / PAGE).unlink()
    with pytest.raises(eb.errors.StoreDetached):
        other.append([("a", "x", b"3")])
    yield store
    for one in (store, other):
        with pytest.raises(eb.errors.StoreDetached):
            one.close()


def test_a_detached_subscription_delivers_the_known_events_and_then_raises(stopped):
    subscription = stopped.subscribe()
    assert [next(subscription).position for _ in range(2)] == [1, 2]
    with pytest.raises(eb.errors.StoreDetached):
        next(subscription)


@pytest.mark.anyio
async def test_a_detached_subscription_on_an_event_loop_delivers_and_then_raises(
    stopped,
):
    subscription = stopped.as_async().subscribe()
    assert [(await anext(subscription)).position for _ in range(2)] == [1, 2]
    with pytest.raises(eb.errors.StoreDetached):
        await anext(subscription)
