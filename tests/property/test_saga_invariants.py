"""Whatever happens to the sagas of a shop, the sums are right when they rest.

Random orders compete for little stock, are declined, time out, lose their answers, are
started twice, cancelled, and the process dies at random appends. At rest: the money
captured is the money of completed orders, stock is never negative, what is reserved is
what completed orders need, and nothing is half done.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

import anyio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import eventbraid as eb
from tests.saga_kit import QUICK, SECOND, Crash, Declined, MortalStore, Receiver

STOCK = 6
BEHAVIOURS = ["ok", "ok", "ok", "decline", "lose", "drop", "hang", "stall"]


class Pieces(eb.Int, gt=0):
    """How much of something."""


@eb.event("saga-shop.reserved")
class Reserved:
    order: str
    pieces: Pieces


@eb.event("saga-shop.released")
class Released:
    order: str
    pieces: Pieces


StockEvent = Reserved | Released


class Shelf(eb.Stream[StockEvent], category="shelf"):
    """The one product of the shop: every order meets every other one here."""


class Reserve(eb.StatefulCommand[int, StockEvent]):
    shelf: eb.Declared[Shelf]
    order: str
    pieces: Pieces

    def initial(self):
        return STOCK

    def apply(self, left, recorded, /):
        event = recorded.event
        pieces = int(event.pieces)
        return left - pieces if isinstance(event, Reserved) else left + pieces

    def decide(self, left, /):
        eb.require(left >= int(self.pieces), "out_of_stock", left=left)
        yield self.shelf.write(Reserved(self.order, self.pieces))


class Release(Reserve):
    def decide(self, left, /):
        yield self.shelf.write(Released(self.order, self.pieces))


@dataclass(frozen=True)
class Order:
    pieces: Pieces
    receipt: str = ""


def shop(receiver: Receiver) -> eb.Saga[Order]:
    def outside(name, **options):
        async def act(context: eb.StepContext[Order]) -> str:
            return await receiver.do(
                f"{context.saga_id} {name}", context.idempotency_key
            )

        async def compensate(
            context: eb.StepContext[Order], did: eb.StepCompleted[str] | eb.StepInDoubt
        ) -> str:
            return await receiver.compensate(
                f"{context.saga_id} {name}",
                context.forward_key,
                context.idempotency_key,
            )

        step = eb.step(
            name,
            act,
            timeout=0.01 * SECOND,
            retry=QUICK,
            refusals=(Declined,),
            **options,
        )
        return step.compensated_by(
            compensate,
            retry=replace(QUICK, maximum_attempts="unlimited"),
            timeout=0.01 * SECOND,
        )

    def reservation(command):
        return lambda c: command(
            shelf="shelf-1", order=c.saga_id, pieces=c.state.pieces
        )

    return eb.Saga(
        "shop",
        Order,
        steps=[
            outside("pay", then=lambda order, receipt: replace(order, receipt=receipt)),
            eb.local_step("reserve", reservation(Reserve)).compensated_by(
                reservation(Release)
            ),
            outside("ship"),
        ],
    )


class Shop(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.store = eb.open("memory:")
        self.receiver = Receiver()
        self.orders: dict[str, Order] = {}

    def teardown(self):
        try:
            for planned in self.receiver.plan.values():
                planned[:] = ["ok"]
            self.run(None)
            self.check_the_sums()
        finally:
            self.store.close()

    @rule(
        pieces=st.lists(st.integers(1, 4), max_size=3),
        behaviours=st.lists(st.sampled_from(BEHAVIOURS), min_size=3, max_size=3),
        compensate=st.sampled_from(["ok", "lose", "drop"]),
        dies_at=st.none() | st.integers(1, 25),
        after=st.booleans(),
        cancels=st.booleans(),
    )
    def take_orders(self, pieces, behaviours, compensate, dies_at, after, cancels):
        for count in pieces:
            saga_id = f"saga-{len(self.orders)}"
            self.orders[saga_id] = Order(Pieces(count))
            for step, first in zip(("pay", "ship"), behaviours, strict=False):
                self.receiver.plan[f"{saga_id} {step}"] = [first, behaviours[-1], "ok"]
                self.receiver.plan[f"compensate {saga_id} {step}"] = [compensate, "ok"]
        self.run(dies_at, after=after, cancels=cancels)

    @invariant()
    def stock_is_never_negative(self):
        left = STOCK
        for recorded in self.store.read_stream("shelf-1"):
            event = eb.decode_event(recorded)
            pieces = int(event.pieces)
            left += pieces if isinstance(event, Released) else -pieces
            assert 0 <= left <= STOCK

    def run(self, dies_at, *, after=False, cancels=False):
        async def drive():
            mortal = MortalStore(self.store.as_async(), dies_at, after=after)
            saga = shop(self.receiver)
            async with eb.SagaCoordinator(
                mortal, [saga], concurrency=4, ends_a_checkpoint=2
            ) as coordinator:
                for saga_id, order in self.orders.items():
                    handle = await coordinator.start(saga, order, id=saga_id)
                    if cancels:
                        with contextlib.suppress(eb.errors.InvalidTransition):
                            await coordinator.cancel(handle.id, reason="no")
                with anyio.fail_after(100):
                    for saga_id in self.orders:
                        handle = await coordinator.get(saga, saga_id)
                        await handle.result()

        with contextlib.suppress(Crash):
            anyio.run(drive)

    def check_the_sums(self):
        outcomes = {
            saga_id: eb.saga.read_timeline(self.store, saga_id).outcome
            for saga_id in self.orders
        }
        assert set(outcomes.values()) <= {
            eb.SagaOutcome.COMPLETED,
            eb.SagaOutcome.COMPENSATED,
        }
        completed = {
            saga_id
            for saga_id, outcome in outcomes.items()
            if outcome is eb.SagaOutcome.COMPLETED
        }
        assert self.receiver.standing() == sorted(
            f"{saga_id} {step}" for saga_id in completed for step in ("pay", "ship")
        )
        assert self.reserved() == {
            saga_id: int(self.orders[saga_id].pieces) for saga_id in completed
        }

    def reserved(self):
        held: dict[str, int] = {}
        for recorded in self.store.read_stream("shelf-1"):
            event = eb.decode_event(recorded)
            sign = 1 if isinstance(event, Reserved) else -1
            held[event.order] = held.get(event.order, 0) + sign * int(event.pieces)
        return {order: pieces for order, pieces in held.items() if pieces}


TestShop = Shop.TestCase
TestShop.settings = settings(max_examples=40, stateful_step_count=6, deadline=None)
