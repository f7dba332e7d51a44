"""Right uses of the test kit, which both type checkers accept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import eventbraid as eb
from eventbraid.testing import SequentialIds, check_purity, given, on

if TYPE_CHECKING:
    from collections.abc import Iterator


class Money(eb.Int, ge=0): ...


class OrderId(eb.Id, prefix="order"): ...


@eb.event("typing.kit.deposited")
class Deposited:
    amount: Money


@eb.event("typing.kit.withdrawn")
class Withdrawn:
    amount: Money


AccountEvent = Deposited | Withdrawn


class Account(eb.Stream[AccountEvent], category="account"): ...


class Withdraw(eb.StatefulCommand[Money, AccountEvent]):
    account: eb.Declared[Account]
    amount: Money

    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, recorded: eb.Recorded[AccountEvent], /) -> Money:
        match recorded.event:
            case Deposited(amount):
                return state + amount
            case Withdrawn(amount):
                return state - amount

    def decide(self, state: Money, /) -> Iterator[eb.Write]:
        eb.require(state >= self.amount, "insufficient_funds", available=state)
        yield self.account.write(Withdrawn(self.amount))


class Purse(eb.Stream[AccountEvent, Money], category="purse"):
    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, event: AccountEvent, /) -> Money:
        match event:
            case Deposited(amount):
                return state + amount
            case Withdrawn(amount):
                return state - amount


class Spend(eb.Command):
    purse: eb.Declared[Purse]
    amount: Money

    def decide(self) -> Iterator[eb.Write]:
        eb.require(self.purse.state >= self.amount, "too_little")
        yield self.purse.write(Withdrawn(self.amount))


alice = Account("account-alice")
withdraw = Withdraw(account=alice, amount=Money(5))

full = given(on(alice, Deposited(Money(9)), Withdrawn(Money(1))))
full.when(withdraw).then(on(alice, Withdrawn(Money(5)))).state(Money(3))
full.when(withdraw, idempotency_key="k").when(withdraw, idempotency_key="k").replayed()
given().when(withdraw).rejected("insufficient_funds", available=Money(0))
given(eb.Write(alice.id, Deposited(Money(9)), {"by": "mia"})).when(withdraw)
check_purity(withdraw, on(alice, Deposited(Money(9))))
mia = Purse("purse-mia")
spend = Spend(purse=mia, amount=Money(5))
filled = given(on(mia, Deposited(Money(9)))).state(mia, Money(9))
spent = filled.when(spend, idempotency_key="k", metadata={"by": "mia"})
spent.then(on(mia, Withdrawn(Money(5)))).state(mia, Money(4)).when(withdraw)
check_purity(spend, on(mia, Deposited(Money(9))))
order: OrderId = SequentialIds().new(OrderId)
