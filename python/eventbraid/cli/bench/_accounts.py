"""The accounts of the measured commands, whose state is a balance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import Iterator


class Amount(eb.Int, ge=0):
    """Cents of a measured account."""


@eb.event("bench.deposited")
class Deposited:
    """The event of a measured deposit."""

    amount: Amount


@eb.event("bench.withdrawn")
class Withdrawn:
    """The event of a measured withdrawal."""

    amount: Amount


AccountEvent = Deposited | Withdrawn


class Account(eb.Stream[AccountEvent, Amount], category="benchaccount"):
    """A stream of deposits and withdrawals; the state is the balance."""

    def initial(self) -> Amount:
        """Return the balance of an empty account."""
        return Amount(0)

    def apply(self, state: Amount, event: AccountEvent, /) -> Amount:
        """Add a deposit, or subtract a withdrawal."""
        match event:
            case Deposited(amount):
                return state + amount
            case Withdrawn(amount):
                return state - amount


class SavedAccount(
    eb.Stream[AccountEvent, Amount], category="benchaccount", snapshot_every=1_000
):
    """An account of which snapshots are recorded."""

    def initial(self) -> Amount:
        """Return the balance of an empty account."""
        return Amount(0)

    def apply(self, state: Amount, event: AccountEvent, /) -> Amount:
        """Add a deposit, or subtract a withdrawal."""
        match event:
            case Deposited(amount):
                return state + amount
            case Withdrawn(amount):
                return state - amount


class Deposit(eb.Command):
    """Deposit on one account, depending on its balance."""

    account: eb.Declared[Account]
    amount: Amount

    def decide(self) -> Iterator[eb.Write]:
        """Deposit, as long as the balance fits."""
        balance = self.account.state
        eb.require(balance < _FULL, "account_full", balance=balance)
        yield self.account.write(Deposited(amount=self.amount))


class SavedDeposit(eb.Command):
    """Deposit on an account of which snapshots are recorded."""

    account: eb.Declared[SavedAccount]
    amount: Amount

    def decide(self) -> Iterator[eb.Write]:
        """Deposit, as long as the balance fits."""
        balance = self.account.state
        eb.require(balance < _FULL, "account_full", balance=balance)
        yield self.account.write(Deposited(amount=self.amount))


class Transfer(eb.Command):
    """Transfer an amount from one account to another, if the balance suffices."""

    source: eb.Declared[Account]
    target: eb.Declared[Account]
    amount: Amount

    def decide(self) -> Iterator[eb.Write]:
        """Withdraw and deposit."""
        balance = self.source.state
        eb.require(balance >= self.amount, "insufficient_funds", available=balance)
        yield self.source.write(Withdrawn(amount=self.amount))
        yield self.target.write(Deposited(amount=self.amount))


_FULL = Amount(1 << 60)


def account_id(number: int) -> str:
    """Return the id of an account."""
    return f"benchaccount-{number:05}"


def deposits(account: str, count: int, amount: int = 1) -> list[eb.NewEvent]:
    """Build events of deposits on one account."""
    return [eb.new_event(account, Deposited(amount=Amount(amount)))] * count


def bytes_of_commit(*events: eb.NewEvent) -> bytes:
    """Join the bytes of events, without anything that a file format adds."""
    return b"".join(
        event.stream.encode() + event.type.encode() + event.data for event in events
    )
