"""What a command yields without end is refused by a limit or by its deadline."""

from __future__ import annotations

import itertools
import time
from datetime import timedelta

import pytest

import eventbraid as eb
from tests.commands import Account, AccountEvent, Deposit, Deposited, Money, PayAll, raw

A, GROUP = "account-a", "group-1"
SOON = timedelta(milliseconds=100)


class Endless(PayAll):
    """Discovers without end, as `kind` says."""

    kind: str

    def discover(self, state, /):
        match self.kind:
            case "new streams":
                return (Account(f"account-{n}") for n in itertools.count())
            case "one stream":
                return itertools.repeat(Account(A))
            case _:
                return slowly(Account(A))


def slowly(stream):
    while True:
        time.sleep(0.005)
        yield stream


@pytest.mark.parametrize(
    ("kind", "what", "limit"),
    [("new streams", "streams", 1_000), ("one stream", "requests", 100_000)],
)
def test_a_discovery_without_end_meets_a_limit(kind, what, limit):
    command = Endless(group=GROUP, amount=Money(1), kind=kind)
    with eb.open("memory:") as store, pytest.raises(eb.errors.DiscoveryLimit) as caught:
        eb.Executor(store).execute(command)
    assert what in caught.value.what
    assert caught.value.limit == limit
    assert f"needs at least {limit + 1:,} {what}" in str(caught.value)
    assert f"expected at most {limit:,}" in str(caught.value)


def test_a_discovery_without_end_meets_its_deadline():
    command = Endless(group=GROUP, amount=Money(1), kind="slow")
    with eb.open("memory:") as store, pytest.raises(eb.errors.DeadlineExceeded):
        eb.Executor(store).execute(command, deadline=SOON)


@eb.event("test_limits.noted")
class Noted:
    text: str


class Notes(eb.Stream[Noted], category="note"): ...


class Generous(eb.StatefulCommand[None, Noted]):
    """Writes without end, as `kind` says."""

    note: eb.Declared[Notes]
    kind: str

    def initial(self): ...

    def apply(self, state, recorded, /): ...

    def decide(self, state, /):
        write = self.note.write(Noted("" if self.kind == "many" else "x" * 10_000))
        return slowly(write) if self.kind == "slow" else itertools.repeat(write)


@pytest.mark.parametrize("kind", ["many", "large"])
def test_a_decision_without_end_meets_the_limits_of_a_commit(kind, monkeypatch):
    name = "eventbraid.command._decision.COMMIT_EVENTS_LIMIT"
    monkeypatch.setattr(name, 10_000, raising=True)
    command = Generous(note="note-1", kind=kind)
    with eb.open("memory:") as store:
        with pytest.raises(eb.errors.LimitExceeded, match="of a commit") as caught:
            eb.Executor(store).execute(command)
        assert caught.value.actual > caught.value.limit
        assert store.head() == 0


def test_a_decision_without_end_meets_its_deadline():
    command = Generous(note="note-1", kind="slow")
    with eb.open("memory:") as store, pytest.raises(eb.errors.DeadlineExceeded):
        eb.Executor(store).execute(command, deadline=SOON)


def test_further_writes_without_end_are_refused():
    also = itertools.repeat(eb.Write(A, Deposited(Money(1))))
    command = Deposit(account=A, amount=Money(1))
    with (
        eb.open("memory:") as store,
        pytest.raises(eb.errors.LimitExceeded, match="events"),
    ):
        eb.Executor(store).execute(command, also=also)


class PayGroup(eb.StatefulCommand[None, AccountEvent]):
    accounts: eb.DeclaredMany[Account]

    def initial(self): ...

    def apply(self, state, recorded, /): ...

    def decide(self, state, /):
        return ()


@pytest.mark.parametrize(
    "streams",
    [lambda: (f"account-{n}" for n in itertools.count()), lambda: itertools.repeat(A)],
    ids=["new ones", "one"],
)
def test_declared_streams_without_end_are_refused(streams):
    with pytest.raises(eb.errors.LimitExceeded, match="streams of PayGroup.accounts"):
        PayGroup(accounts=streams())


def test_a_large_decision_within_the_limits_is_committed():
    class Many(Deposit):
        def decide(self, state, /):
            return [self.account.write(Deposited(Money(n))) for n in range(10_000)]

    with eb.open("memory:") as store:
        done = eb.Executor(store).execute(Many(account=A, amount=Money(1)))
        assert done.versions == {A: 10_000}
        assert [raw(A, one) for one in done.events[:1]]
