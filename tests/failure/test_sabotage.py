"""Others do what they like to the files that processes share a store by.

The hazard: what keeps processes apart is a page of memory and a few lock files, and any
program may delete them, write to them or put others in their place. Whatever is done while
four processes work: no commit is lost or torn, no read is wrong, who is refused is told why
by an error of its own kind, and the work goes on once those that were told have opened the
store again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import eventbraid as eb
from tests.histories.checks import check
from tests.histories.processes import Crew, Member, read_log
from tests.histories.program import Orders
from tests.histories.history import Delivered, Done
from tests.histories.rust_examples import built
from tests.histories.stores import ENGINE, ON_LOOP

BOUND = 20.0
"""Seconds until the work must have gone on."""

TOLD = {"StoreDetached", "StoreBusy", "StoreClosed", "OutcomeUnknown"}
PAGE = "coord.shm"
WORD = 8
DURABLE = 112
"""The word that numbers the record of what is durable."""

pytestmark = pytest.mark.timeout(600)


class Sabotage:
    """Processes at work on a store, what is done to it, and what comes of that."""

    def __init__(self, path: Path) -> None:
        self.path = path
        options = {"segment_size": 64 << 10, "lock_timeout": 1.0}
        self.crew = Crew(
            Orders(
                name="p",
                store=ENGINE,
                path=str(path),
                seed=7,
                pause=0.002,
                options=options,
            )
        )

    def start(self) -> None:
        """Start one with threads, one with a loop, and one that only listens."""
        self.crew.start()
        self.crew.start(store=ON_LOOP, threads=4)
        self.crew.start(threads=0)
        self.await_work(time.monotonic_ns())

    def await_work(self, since: int) -> None:
        """Wait until each has done, or has been told of, something that is new."""
        waiting = list(self.crew.members)
        patience = time.monotonic() + BOUND
        while waiting := [one for one in waiting if not has_worked(one, since)]:
            assert time.monotonic() < patience, [
                (one.orders.name, one.told()[-3:]) for one in waiting
            ]
            time.sleep(0.02)

    def judge(self) -> set[str]:
        """End all; answer the kinds of errors that were told of."""
        for member in self.crew.members:
            member.end()
        self.crew.gather_all()
        assert self.crew.failed == []
        log = read_log(self.crew.orders)
        assert check(self.crew.history, log) == []
        with eb.open(self.path) as store:
            assert store.verify().events == log.head
        return {trouble.kind for _, trouble in self.crew.history.troubles}


def has_worked(member: Member, since: int) -> bool:
    return any(
        isinstance(line, Done | Delivered) and line.at > since for line in member.told()
    )


@pytest.fixture
def sabotage(tmp_path):
    made = Sabotage(tmp_path / "store")
    yield made
    made.crew.dismiss()


def overwrite(page: Path, data: bytes, at: int = 0) -> None:
    with page.open("r+b") as file:
        file.seek(at)
        file.write(data)


def delete(store: Path) -> None:
    (store / PAGE).unlink()


def delete_and_make(store: Path) -> None:
    copy = shutil.copy(store / PAGE, store / "copy")
    (store / PAGE).unlink()
    Path(copy).rename(store / PAGE)


def fill_with_noise(store: Path) -> None:
    overwrite(store / PAGE, random.Random(7).randbytes(64 << 10))


def fill_with_zeros(store: Path) -> None:
    overwrite(store / PAGE, bytes(64 << 10))


def put_back_an_older_end(store: Path) -> None:
    # Only the end of the log: readers still find what is durable.
    with (store / PAGE).open("r+b", buffering=0) as page:
        copy = os.pread(page.fileno(), 32 * WORD, 80 * WORD)
        time.sleep(0.3)
        # More than once: a writer in its turn records its own end over the older one.
        for _ in range(20):
            os.pwrite(page.fileno(), copy, 80 * WORD)
            time.sleep(0.005)


DETACHING: list[Callable[[Path], None]] = [
    delete,
    delete_and_make,
    fill_with_noise,
    fill_with_zeros,
    put_back_an_older_end,
]


@pytest.mark.parametrize("harm", DETACHING, ids=lambda harm: harm.__name__)
def test_a_page_that_is_not_what_it_was_is_left(sabotage, harm):
    sabotage.start()
    harm(sabotage.path)
    sabotage.await_work(time.monotonic_ns())
    told = sabotage.judge()
    assert "StoreDetached" in told
    assert told <= TOLD


@pytest.mark.parametrize("lock", ["boot", "write", "sync", "maint", None])
def test_a_lock_file_that_is_gone_is_missed(sabotage, lock):
    sabotage.start()
    locks = sabotage.path / "locks"
    if lock is None:
        shutil.rmtree(locks)
    else:
        (locks / f"{lock}.lock").unlink()
    # Who finds it missing tells of that, and the others do so within their next nap.
    await_detached(sabotage.crew.members)
    sabotage.await_work(time.monotonic_ns())
    told = sabotage.judge()
    assert told <= TOLD


def test_lock_files_that_others_were_put_in_place_of_are_missed(sabotage):
    sabotage.start()
    for lock in (sabotage.path / "locks").glob("*.lock"):
        other = lock.with_suffix(".new")
        other.touch()
        other.rename(lock)
    await_detached(sabotage.crew.members)
    sabotage.await_work(time.monotonic_ns())
    assert sabotage.judge() <= TOLD


def await_detached(members: list[Member]) -> None:
    patience = time.monotonic() + BOUND
    while not any(
        getattr(line, "kind", None) == "StoreDetached"
        for one in members
        for line in one.told()
    ):
        assert time.monotonic() < patience, "nobody missed it"
        time.sleep(0.02)


def test_any_words_of_the_page_may_be_overwritten_at_any_time(sabotage):
    sabotage.start()
    chance = random.Random(7)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        time.sleep(chance.uniform(0, 0.1))
        # There is none while nobody has the store, which is often so.
        if (sabotage.path / PAGE).exists():
            noise = chance.choice([bytes(WORD), chance.randbytes(WORD)])
            overwrite(sabotage.path / PAGE, noise, WORD * chance.randrange(208))
    sabotage.await_work(time.monotonic_ns())
    assert sabotage.judge() <= TOLD | {"StorePoisoned"}


def test_a_page_that_was_cut_off_costs_processes_but_no_commit(sabotage):
    """Who touches memory that is gone dies of it; the others open the store again."""
    sabotage.start()
    os.truncate(sabotage.path / PAGE, 0)
    patience = time.monotonic() + BOUND
    crew = sabotage.crew
    while all(member.is_alive for member in crew.members):
        assert time.monotonic() < patience, "nobody touched the page"
        time.sleep(0.01)
    since = time.monotonic_ns()
    while True:
        for member in [one for one in crew.members if not one.is_alive]:
            crew.gather(member)
        if len(crew.members) < 3:
            crew.start()
        elif all(has_worked(member, since) for member in crew.members):
            break
        assert time.monotonic() < patience
        time.sleep(0.02)
    assert all(f"ended with {-signal.SIGBUS}" in failed for failed in crew.failed)
    crew.failed.clear()
    assert sabotage.judge() <= TOLD


def test_who_is_no_python_is_told_as_well(sabotage):
    member = sabotage.crew.start(built("soak_member"))
    sabotage.crew.start()
    sabotage.await_work(time.monotonic_ns())
    delete(sabotage.path)
    code = member.process.wait(BOUND)
    assert code == 3
    assert "Detached" in sabotage.judge()


@pytest.fixture
def uninformed(tmp_path):
    """A store that has yet to learn of another opening's event, and can't any more."""
    path = tmp_path / "store"
    store, other = eb.open(path), eb.open(path)
    other.append([("a", "x", b"1")])
    overwrite(path / PAGE, b"\xee" * WORD, DURABLE * WORD)
    yield store
    for one in (store, other):
        with pytest.raises(eb.StoreDetached):
            one.close()


def test_a_head_that_others_may_be_beyond_is_not_told(uninformed):
    with pytest.raises(eb.StoreDetached):
        uninformed.head()


@pytest.mark.anyio
async def test_nor_is_it_on_an_event_loop(uninformed):
    with pytest.raises(eb.StoreDetached):
        await uninformed.as_async().head()


@pytest.fixture
def stopped(tmp_path):
    """A store of two events that two openings have, one of which was told to stop."""
    path = tmp_path / "store"
    store, other = eb.open(path), eb.open(path)
    other.append([("a", "x", b"1"), ("a", "x", b"2")])
    delete(path)
    with pytest.raises(eb.StoreDetached):
        other.append([("a", "x", b"3")])
    yield store
    for one in (store, other):
        with pytest.raises(eb.StoreDetached):
            one.close()


def test_a_subscription_brings_what_there_is_and_then_why_there_is_no_more(stopped):
    subscription = stopped.subscribe()
    assert [next(subscription).position for _ in range(2)] == [1, 2]
    with pytest.raises(eb.StoreDetached):
        next(subscription)


@pytest.mark.anyio
async def test_so_does_one_on_an_event_loop(stopped):
    subscription = stopped.as_async().subscribe()
    assert [(await anext(subscription)).position for _ in range(2)] == [1, 2]
    with pytest.raises(eb.StoreDetached):
        await anext(subscription)
