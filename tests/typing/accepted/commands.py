"""Commands, events and values as users write them: both checkers must accept this."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, assert_type

import attrs
import msgspec
import pydantic

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Money(eb.Int, ge=0):
    """Cents."""


class Quantity(eb.Int, gt=0): ...


class AccountId(eb.Id, prefix="account"): ...


class Country(eb.Text, pattern="[A-Z]{2}"): ...


@eb.value_object
class Address:
    street: str
    country: Country = Country("DE")


@eb.value_object(tag="card")
class Card:
    number: str


@eb.value_object
class Cash: ...


@eb.event("typing.paid")
class Paid:
    by: Card | Cash
    address: Address


assert_type(Card(number="1"), Card)
assert_type(Paid(Card("1"), Address("x")).by, Card | Cash)
assert_type(eb.new_event("paid-1", Paid(Cash(), Address("x"))), eb.NewEvent)


@eb.event("typing.account.withdrawn")
class Withdrawn:
    amount: Money


@eb.event("typing.account.deposited", version=2, oldest_version=2)
class Deposited:
    amount: Money
    notes: tuple[str, ...] = field(default=())


@eb.event("typing.limit.set")
class LimitSet:
    amount: Money


@eb.register_event("typing.struct")
class StructEvent(msgspec.Struct, kw_only=True, frozen=True):
    y: str = ""
    x: int


@eb.register_event("typing.model")
class ModelEvent(pydantic.BaseModel):
    y: str = ""
    x: int


@eb.register_event("typing.attrs")
@attrs.frozen
class AttrsEvent:
    x: int


made = [StructEvent(x=1), ModelEvent(x=1), AttrsEvent(x=1), Address("Main Street")]
made += [Deposited(Money(1)), Deposited(Money(1), notes=("x",))]

AccountEvent = Withdrawn | Deposited


class Account(eb.Stream[AccountEvent], category="account"): ...


class Limit(eb.Stream[LimitSet], category="limit"): ...


@dataclass(frozen=True)
class Balances:
    of: dict[str, int]


class Transfer(eb.StatefulCommand[Balances, AccountEvent | LimitSet]):
    source: eb.Declared[Account]
    target: eb.Declared[Account]
    limit: eb.Declared[Limit]
    amount: Money
    note: str = ""

    def initial(self) -> Balances:
        return Balances({})

    def apply(
        self, state: Balances, recorded: eb.Recorded[AccountEvent | LimitSet], /
    ) -> Balances:
        match recorded.event:
            case Withdrawn(amount=amount):
                return Balances({recorded.stream: -int(amount)})
            case Deposited(amount=amount):
                return Balances({recorded.stream: int(amount)})
            case LimitSet():
                return state

    def decide(self, state: Balances, /) -> Iterator[eb.Write]:
        left = state.of[self.source]
        eb.require(left >= int(self.amount), "insufficient_funds", left=left)
        eb.require(left > 0, "empty", "There is nothing.")
        yield self.source.write(Withdrawn(amount=self.amount))
        yield self.target.write(Deposited(amount=self.amount), metadata={"by": "x"})
        yield self.source.write(Withdrawn(Money(1)), original_time=datetime.now(UTC))
        yield self.discovered(Account("account-x")).write(Withdrawn(Money(3)))


class OnAccounts(eb.StatefulCommand[int, AccountEvent], abstract=True):
    reason: str

    def initial(self) -> int:
        return 0

    def apply(self, state: int, recorded: eb.Recorded[AccountEvent], /) -> int:
        return state + recorded.version


class CloseAll(OnAccounts, name="close-all"):
    accounts: eb.DeclaredMany[Account]

    def discover(self, state: int, /) -> Iterable[eb.Stream[Any]]:
        return [Account(f"account-{state}")]

    def decide(self, state: int, /) -> list[eb.Write]:
        return [account.write(Withdrawn(Money(state))) for account in self.accounts]


class Wallet(eb.Stream[AccountEvent, Money], category="wallet"):
    def initial(self) -> Money:
        return Money(0)

    def apply(self, state: Money, event: AccountEvent, /) -> Money:
        match event:
            case Withdrawn(amount=amount):
                return state - amount
            case Deposited(amount=amount):
                return state + amount


class Pay(eb.Command):
    source: eb.Declared[Wallet]
    targets: eb.DeclaredMany[Wallet]
    limit: eb.Declared[Limit]
    amount: Money = Money(1)

    def discover(self) -> Iterable[eb.Stream[Any, Any]]:
        assert_type(self.source.state, Money)
        assert_type(self.limit.version, int)
        return [Wallet(f"wallet-{int(self.source.state)}")]

    def decide(self) -> Iterator[eb.Write]:
        assert_type(self.limit.state, None)
        eb.require(self.source.state >= self.amount, "insufficient_funds")
        yield self.source.write(Withdrawn(self.amount))
        for target in self.targets:
            assert_type(target.state + Money(1), Money)
            yield target.write(Deposited(self.amount))
        found = self.discovered(Wallet("wallet-0"))
        assert_type(found.state, Money)
        yield found.write(Deposited(self.amount))


class Waiting(eb.Command, abstract=True):
    wallet: eb.Declared[Wallet]


pay = Pay(source="wallet-a", targets=[Wallet("wallet-b")], limit="limit-eu")
assert_type(pay.source, eb.command.Writable[AccountEvent, Money])

transfer = Transfer(
    source="account-alice",
    target=Account("account-bob"),
    limit=Limit("limit-eu"),
    amount=Money(100),
)
Transfer(
    source=AccountId("account-alice"),
    target=transfer.source,
    limit="limit-eu",
    amount=Money(1),
    note="x",
)
CloseAll(accounts=["account-a", Account("account-b")], reason="x")
handle: str = transfer.source
assert_type(transfer.source, eb.command.Writable[Withdrawn | Deposited])
assert_type(transfer.limit, eb.command.Writable[LimitSet])
assert_type(
    CloseAll(accounts=[], reason="x").accounts, eb.command.Writables[AccountEvent]
)
assert_type(Transfer.source, eb.Declared[Account])
assert_type(Transfer.source.kind, type[Account])
assert_type(transfer.discovered(Limit("limit-1")), eb.command.Writable[LimitSet])

total: Money = Money(5) + Money(7)
total -= Money(1)
assert_type(Money(9) // Money(2), Money)
assert_type(Money(9) % Money(2), Money)
assert_type(Money(9).times(Quantity(2)), Money)
assert_type(sum([Money(1), Money(2)], Money(0)), Money)
assert_type(max(Money(1), Money(2)), Money)
assert_type(Money(1) < Money(2), bool)
assert_type(AccountId.new(), AccountId)
assert_type(AccountId.derived("cdnow", 7), AccountId)

State = TypeVar("State")


def run(store: eb.EventStore) -> eb.Executed:
    executor = eb.Executor(store, retry=eb.RetryPolicy(maximum_attempts=5))
    return executor.execute(
        transfer,
        idempotency_key="key",
        metadata={"correlation_id": "x"},
        also=[
            eb.Write("other-1", Withdrawn(Money(1))),
            eb.Write("other-1", Withdrawn(Money(1)), original_time=datetime.now(UTC)),
        ],
        expect={"other-1": eb.NO_STREAM, "other-2": 3},
        deadline=timedelta(seconds=1),
    )


async def run_async(store: eb.AsyncEventStore) -> eb.Executed:
    executor = eb.AsyncExecutor(store)
    for recorded in (await store.read_streams(["account-a"])).events:
        eb.command.caused_by(recorded)
        eb.decode_event(recorded)
    return await executor.execute(transfer)


def generic(command: eb.StatefulCommand[State, Any]) -> State:
    return command.initial()
