"""Wrong uses of the test kit, which both type checkers refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import eventbraid as eb
from eventbraid.testing import SequentialIds, check_purity, given, on

if TYPE_CHECKING:
    from collections.abc import Iterator


class Money(eb.Int, ge=0): ...


@eb.event("typing.kit.refused.deposited")
class Deposited:
    amount: Money


@eb.event("typing.kit.refused.shipped")
class Shipped:
    parcel: str


class Account(eb.Stream[Deposited], category="account"): ...


class Deposit(eb.StatefulCommand[Money, Deposited]):
    account: eb.Declared[Account]

    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, recorded: eb.Recorded[Deposited], /) -> Money:
        return state + recorded.event.amount

    def decide(self, state: Money, /) -> Iterator[eb.Write]:
        yield self.account.write(Deposited(state))


class Purse(eb.Stream[Deposited, Money], category="purse"):
    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, event: Deposited, /) -> Money:
        return state + event.amount


class Fill(eb.Command):
    purse: eb.Declared[Purse]

    def decide(self) -> Iterator[eb.Write]:
        yield self.purse.write(Deposited(Money(1)))


mia = Purse("purse-mia")
fill = Fill(purse=mia)

on(mia, Shipped("p"))  # refused: a foreign event
given().state(mia, "rich")  # refused: another state
given().when(fill).state(Money(1))  # refused: the command has no state of its own
given().when(fill).state(mia, "rich")  # refused: another state
given().when(fill, idempotency="k")  # refused: no such option

alice = Account("account-alice")
deposit = Deposit(account=alice)

on(alice, Shipped("p"))  # refused: a foreign event
on(alice, Deposited(Money(1)), Shipped("p"))  # refused: a foreign event among others
on("account-alice", Deposited(Money(1)))  # refused: no kind of stream
on(alice, Deposited)  # refused: a class, not an event
given(Deposited(Money(1)))  # refused: no stream
given().when(deposit).then(on(alice, Shipped("p")))  # refused: a foreign event
given().when(deposit).then(Deposited(Money(1)))  # refused: no stream
given().when(deposit).state("rich")  # refused: another state
given().when(Deposit)  # refused: a class, not a command
given().when(deposit).rejected()  # refused: no code
check_purity(alice)  # refused: no command
SequentialIds().new(Money)  # refused: no kind of id
