"""Wrong uses of commands and values: both checkers must refuse each marked line."""

from __future__ import annotations

from collections.abc import Iterator

import eventbraid as eb

from tests.typing.accepted.commands import (
    Account,
    AccountEvent,
    AccountId,
    Balances,
    CloseAll,
    Deposited,
    Limit,
    LimitSet,
    Money,
    Quantity,
    Transfer,
    Wallet,
    Withdrawn,
    transfer,
)


class Bad(eb.StatefulCommand[Balances, AccountEvent | LimitSet]):
    source: eb.Declared[Account]
    many: eb.DeclaredMany[Account]
    limit: eb.Declared[Limit]
    wrong: eb.Declared[LimitSet]  # refused: an event is no kind of stream
    wrong_union: eb.Declared[AccountEvent]  # refused: as above
    wrong_many: eb.DeclaredMany[LimitSet]  # refused: as above
    no_kind: eb.Declared  # refused: which kind
    assigned: eb.Declared[Account] = Account("account-a")  # refused: no default
    amount: Money

    def initial(self) -> Balances:
        return Balances({})

    def apply(self, state: Balances, recorded: eb.Recorded[AccountEvent], /) -> Balances:  # refused: misses LimitSet
        return state

    def decide(self, state: Balances, /) -> Iterator[eb.Write]:
        yield self.source.write(LimitSet(amount=self.amount))  # refused: foreign event
        yield self.source.write("no event")  # refused: no event at all
        yield self.limit.write(Withdrawn(self.amount))  # refused: foreign event
        yield from [one.write(LimitSet(self.amount)) for one in self.many]  # refused: foreign event
        yield self.many.of("account-x").write(LimitSet(self.amount))  # refused: foreign event
        yield self.many.write(Withdrawn(self.amount))  # refused: which one of them
        yield Account("account-x").write(Withdrawn(self.amount))  # refused: a plain id has no write
        yield "account-x"  # refused: no write
        self.source = "account-b"  # refused: frozen
        self.many = ["account-b"]  # refused: frozen
        self.amount = Money(1)  # refused: frozen
        yield self.discovered(Account("account-a")).write(LimitSet(self.amount))  # refused: foreign event


class BadState(eb.StatefulCommand[Balances, AccountEvent]):
    source: eb.Declared[Account]

    def initial(self) -> int:  # refused: wrong state
        return 0

    def apply(self, state: Balances, recorded: eb.Recorded[AccountEvent], /) -> Balances:
        return state

    def decide(self, state: Balances, /) -> Iterator[eb.Write]:
        yield from ()


class BadFold(eb.Stream[AccountEvent, Money], category="fold"):
    def initial(self) -> int:  # refused: wrong state
        return 0

    def apply(self, state: Money, event: Withdrawn, /) -> Money:  # refused: misses Deposited
        return state


class BadPay(eb.Command):
    source: eb.Declared[Wallet]
    limit: eb.Declared[Limit]
    amount: Money

    def decide(self) -> Iterator[eb.Write]:
        left: int = self.limit.state  # refused: a limit has no state
        self.source.state + Quantity(1)  # refused: two kinds
        self.source.state = Money(0)  # refused: read only
        yield self.source.write(LimitSet(self.amount))  # refused: foreign event
        yield self.source.write(Withdrawn(self.amount), original_time="2026-01-01")  # refused: a text is no time
        yield self.limit.write(Withdrawn(self.amount))  # refused: foreign event
        yield self.discovered(Wallet("wallet-a")).write(LimitSet(self.amount))  # refused: foreign event


class TwoForms(eb.Command):
    source: eb.Declared[Wallet]

    def decide(self, state: Money, /) -> Iterator[eb.Write]:  # refused: the state is that of the stream
        yield from ()


BadPay(source=Account("account-a"), limit="l", amount=Money(1))  # refused: wrong kind


class Incomplete(eb.StatefulCommand[Balances, AccountEvent], abstract=True):
    source: eb.Declared[Account]

    def initial(self) -> Balances:
        return Balances({})


Incomplete(source="account-a")  # refused: apply and decide are missing
Transfer(source=Limit("limit-1"), target="b", limit="l", amount=Money(1))  # refused: wrong kind
Transfer(source="a", target="b", limit="l")  # refused: missing field
Transfer(source="a", limit="l", amount=Money(1))  # refused: missing stream
CloseAll(accounts=[Limit("limit-1")], reason="x")  # refused: wrong kind
CloseAll(accounts=Account("account-a"), reason="x")  # refused: no list
CloseAll(reason="x")  # refused: missing streams
Transfer(source=3, target="b", limit="l", amount=Money(1))  # refused: no id
Transfer(source="a", target="b", limit="l", amount=5)  # refused: an int is no Money
Transfer("a", "b", "l", Money(1))  # refused: by name only
Transfer(source="a", target="b", limit="l", amount=Money(1), speed=3)  # refused: no such field
transfer.amount = Money(3)  # refused: frozen
Withdrawn(amount=Money(1)).amount = Money(2)  # refused: frozen
Withdrawn(5)  # refused: an int is no Money
Deposited()  # refused: missing field
Money(1) + Quantity(1)  # refused: two kinds
Money(3) - Quantity(1)  # refused: two kinds
Money(3) // Quantity(1)  # refused: two kinds
Money(3) % Quantity(1)  # refused: two kinds
Money(1) < Quantity(1)  # refused: two kinds
sum([Money(1), Money(2)], Money(0)) + Quantity(1)  # refused: two kinds
total: Money = Money(3).times(1.5)  # refused: no whole number
order: AccountId = "account-a"  # refused: a text is no id
executor = eb.Executor("shop.braid")  # refused: no store
eb.RetryPolicy(5)  # refused: by name only
eb.require("code")  # refused: no code
