"""The commands of a bank that record on which states they decided.

Each event contains the states of all streams that its command decided on, with their
versions. So the log alone shows whether a decision was based on the states at the versions
that its append confirmed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import eventbraid as eb

ACCOUNTS = 5
OPENING = 100
NAMES = tuple(f"account-{number}" for number in range(ACCOUNTS))

Seen = tuple[str, str, int, tuple[int, ...]]
"""A kind, the id of a stream, a version, and the state as numbers."""


class Money(eb.Int): ...


@eb.event("histories.moved")
class Moved:
    """Money was moved to an account, or from it if the amount is negative."""

    amount: Money
    command: str
    seen: tuple[Seen, ...] = ()


class Account(eb.Stream[Moved, Money], category="account", snapshot_every=20):
    """The balance of an account, which is immutable and shared by the cache."""

    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, event: Moved, /) -> Money:
        return state + event.amount


class Journal(eb.Stream[Moved, list[int]], category="account", snapshot_every=33):
    """The amounts of an account, in a list: a mutable state, copied for each command."""

    def initial(self) -> list[int]:
        return []

    def apply(self, state: list[int], event: Moved, /) -> list[int]:
        return [*state, int(event.amount)]


def numbers_of(kind: str, amounts: Iterable[int]) -> tuple[int, ...]:
    """Return the state of a kind as numbers, for the amounts of a stream's events."""
    listed = list(amounts)
    if kind == "Account":
        return (sum(listed),)
    return (len(listed), sum(listed), listed[-1] if listed else 0)


def seen(handle: eb.command.Writable) -> Seen:
    """Return the state that a command sees of one of its streams."""
    kind = handle.kind.__name__
    state = handle.state
    amounts = [int(state)] if kind == "Account" else state
    return kind, str(handle), handle.version, numbers_of(kind, amounts)


class Transfer(eb.Command):
    """Move money between two accounts."""

    source: eb.Declared[Account]
    target: eb.Declared[Account]
    amount: Money
    id: str

    def decide(self) -> Iterator[eb.Write]:
        states = seen(self.source), seen(self.target)
        eb.require(self.source.state >= self.amount, "insufficient_funds", seen=states)
        yield self.source.write(Moved(-self.amount, self.id, states))
        yield self.target.write(Moved(self.amount, self.id, states))


class GuardedTransfer(eb.Command):
    """Move money if a third account, which is only read, has more."""

    source: eb.Declared[Account]
    target: eb.Declared[Account]
    guard: eb.Declared[Journal]
    amount: Money
    id: str

    def decide(self) -> Iterator[eb.Write]:
        states = seen(self.source), seen(self.target), seen(self.guard)
        guarded = sum(self.guard.state)
        # A faulty cache would keep this change.
        self.guard.state.append(-1)
        self.guard.state.sort()
        eb.require(guarded >= int(self.source.state), "guard_too_low", seen=states)
        yield self.source.write(Moved(-self.amount, self.id, states))
        yield self.target.write(Moved(self.amount, self.id, states))


class Sweep(eb.Command):
    """Move a part of an account to another one, and note it at a discovered one."""

    source: eb.Declared[Account]
    target: eb.Declared[Account]
    id: str

    def _further(self) -> Journal:
        return Journal(NAMES[int(self.source.state) % ACCOUNTS])

    def discover(self) -> list[Journal]:
        return [self._further()]

    def decide(self) -> Iterator[eb.Write]:
        further = self.discovered(self._further())
        states = seen(self.source), seen(self.target), seen(further)
        amount = Money(int(self.source.state) // 4)
        eb.require(amount > Money(0), "nothing_to_sweep", seen=states)
        yield further.write(Moved(Money(0), self.id, states))
        yield self.source.write(Moved(-amount, self.id, states))
        yield self.target.write(Moved(amount, self.id, states))


class FoldedTransfer(eb.StatefulCommand[tuple[int, int], Moved]):
    """Move money by a fold of its own: the number and the total of all amounts."""

    source: eb.Declared[Account]
    target: eb.Declared[Account]
    amount: Money
    id: str

    def initial(self) -> tuple[int, int]:
        return 0, 0

    def apply(
        self, state: tuple[int, int], recorded: eb.Recorded[Moved], /
    ) -> tuple[int, int]:
        count, total = state
        return count + 1, total + int(recorded.event.amount)

    def decide(self, state: tuple[int, int], /) -> Iterator[eb.Write]:
        states = seen(self.source), seen(self.target), ("own", "", 0, state)
        eb.require(self.source.state >= self.amount, "insufficient_funds", seen=states)
        yield self.source.write(Moved(-self.amount, self.id, states))
        yield self.target.write(Moved(self.amount, self.id, states))


class Audit(eb.Command):
    """Read all accounts and decide on nothing; the store checks the versions."""

    accounts: eb.DeclaredMany[Account]
    id: str

    def decide(self) -> list[eb.Write]:
        # Not pure: the last call before the execution succeeds is the one that counts.
        AUDITED[self.id] = tuple(map(seen, self.accounts))
        return []


AUDITED: dict[str, tuple[Seen, ...]] = {}
"""The states that each audit has seen, by its id."""

SHARED_KEYS = 30


def shared_transfer(number: int) -> tuple[str, Transfer]:
    """Return a key and its command, which are equal in all processes."""
    rng = random.Random(number)
    source, target = rng.sample(NAMES, 2)
    key = f"shared-{number}"
    amount = Money(rng.randint(1, 40))
    return key, Transfer(source=source, target=target, amount=amount, id=key)


def open_accounts(store: eb.EventStore) -> None:
    """Pay the opening balances in, in one commit."""
    opening = Moved(Money(OPENING), "opening")
    store.append([eb.new_event(name, opening) for name in NAMES])
