"""Right uses of sagas: both checkers must accept all of this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import eventbraid as eb

SECOND = timedelta(seconds=1)
DEFECTS: tuple[type[BaseException], ...] = (*eb.saga.DEFECTS, ValueError)
ORDER: eb.saga.CompensationOrder = "strict"


class Cents(eb.Int, ge=0):
    """Money."""


@eb.event("typing-sagas.captured")
class Captured:
    cents: Cents


@eb.event("typing-sagas.refunded")
class Refunded:
    cents: Cents


Payment = Captured | Refunded


class Payments(eb.Stream[Payment], category="payments"):
    """One customer's payments."""


class RecordCapture(eb.StatefulCommand[None, Payment]):
    payments: eb.Declared[Payments]
    cents: Cents

    def initial(self) -> None:
        return None

    def apply(self, state: None, recorded: eb.Recorded[Payment], /) -> None:
        return None

    def decide(self, state: None, /) -> Iterator[eb.Write]:
        yield self.payments.write(Captured(self.cents))


class RecordRefund(eb.StatefulCommand[None, Payment]):
    payments: eb.Declared[Payments]
    cents: Cents

    def initial(self) -> None:
        return None

    def apply(self, state: None, recorded: eb.Recorded[Payment], /) -> None:
        return None

    def decide(self, state: None, /) -> Iterator[eb.Write]:
        yield self.payments.write(Refunded(self.cents))


@dataclass(frozen=True)
class Receipt:
    payment_id: str
    cents: Cents


@dataclass(frozen=True)
class Order:
    payments: str
    cents: Cents
    receipt: Receipt | None = None
    parcel: str | None = None


class Declined(Exception):
    """The bank said no."""


class Bank(Protocol):
    async def capture(self, cents: Cents, key: str) -> Receipt: ...
    async def find(self, key: str) -> Receipt | None: ...
    async def refund(self, payment_id: str, key: str) -> Receipt: ...
    async def void(self, forward_key: str, key: str) -> Receipt: ...


class Capture:
    """An external step whose functions are methods."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    async def capture(self, c: eb.StepContext[Order]) -> Receipt:
        return await self.bank.capture(c.state.cents, c.idempotency_key)

    async def ask(self, c: eb.StepContext[Order]) -> eb.StepCompleted[Receipt] | None:
        found = await self.bank.find(c.idempotency_key)
        return None if found is None else eb.StepCompleted(found)

    async def refund(
        self, c: eb.StepContext[Order], did: eb.StepCompleted[Receipt] | eb.StepInDoubt
    ) -> Receipt:
        match did:
            case eb.StepCompleted(receipt):
                return await self.bank.refund(receipt.payment_id, c.idempotency_key)
            case eb.StepInDoubt():
                return await self.bank.void(c.forward_key, c.idempotency_key)

    def refunded(
        self, c: eb.StepContext[Order], receipt: Receipt
    ) -> RecordRefund | None:
        if not receipt.payment_id:
            return None
        return RecordRefund(payments=c.state.payments, cents=receipt.cents)

    def step(self) -> eb.Step[Order, Receipt]:
        return eb.step(
            "capture payment",
            self.capture,
            timeout=5 * SECOND,
            retry=eb.RetryPolicy(maximum_attempts=4),
            refusals=(Declined,),
            maximum_crashes=3,
            ask=self.ask,
            then=lambda order, receipt: replace(order, receipt=receipt),
            record=lambda c, receipt: RecordCapture(
                payments=c.state.payments, cents=receipt.cents
            ),
            skip_if=lambda order: "it is free" if order.cents == Cents(0) else None,
        ).compensated_by(
            self.refund,
            retry=eb.RetryPolicy(maximum_attempts="unlimited"),
            timeout=SECOND,
            record=self.refunded,
        )


async def dispatch(c: eb.StepContext[Order]) -> str:
    return f"parcel for {c.state.payments}"


async def notify(c: eb.StepContext[Order]) -> None:
    del c


def book(c: eb.StepContext[Order]) -> RecordCapture:
    return RecordCapture(payments=c.state.payments, cents=c.state.cents)


def unbook(c: eb.StepContext[Order]) -> RecordRefund:
    return RecordRefund(payments=c.state.payments, cents=c.state.cents)


def order_saga(bank: Bank) -> eb.Saga[Order]:
    return eb.Saga(
        "typing-order",
        Order,
        version=2,
        deadline=timedelta(days=3),
        defects=DEFECTS,
        compensation_order=ORDER,
        steps=[
            eb.local_step("book", book).compensated_by(unbook),
            Capture(bank).step(),
            eb.step(
                "dispatch",
                dispatch,
                timeout=30 * SECOND,
                kind=eb.StepKind.PIVOT,
                then=lambda order, parcel: replace(order, parcel=parcel),
            ),
            eb.local_step(
                "close",
                lambda c: RecordCapture(payments=c.state.payments, cents=Cents(0)),
                kind=eb.StepKind.RETRIABLE,
                then=lambda order, executed: replace(
                    order, parcel=f"{order.parcel} {executed.last_position}"
                ),
            ),
            eb.step(
                "notify",
                notify,
                timeout=SECOND,
                otherwise=lambda c, failure: RecordCapture(
                    payments=f"{c.state.payments}-{failure.code}", cents=Cents(0)
                ),
            ),
        ],
    )


def first_steps(saga: eb.Saga[Order]) -> Sequence[eb.saga.SagaStep[Order]]:
    return saga.steps[:2]


async def use(store: eb.AsyncEventStore, bank: Bank, order: Order) -> str:
    saga = order_saga(bank)
    async with eb.SagaCoordinator(store, [saga], on_event=told) as coordinator:
        handle = await coordinator.start(saga, order, id="saga-1")
        ended = await handle.result(timeout=10 * SECOND)
        if ended.outcome is eb.SagaOutcome.STUCK:
            for summary in await coordinator.stuck():
                await coordinator.retry(summary.id, by="mia", note="bank is back")
        parcel: str | None = ended.state.parcel
        return parcel or ""


def told(progress: eb.saga.SagaProgress) -> None:
    assert progress.what.startswith("saga."), progress.saga_id


def show(store: eb.EventStore) -> list[str]:
    return [
        f"{e.time} {e.step} {e.what}" for e in eb.saga.read_timeline(store, "s").entries
    ]
