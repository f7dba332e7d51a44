"""The demo: every row of the table of failures, on a log on disk, reconciled.

Each test runs the whole application: store, sagas, services with their ledgers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

import eventbraid as eb
from eventbraid.examples.order_fulfilment.catalogue import order_id, placed_order
from eventbraid.examples.order_fulfilment.demo import (
    DemoOptions,
    Tally,
    run_demo,
)
from eventbraid.examples.order_fulfilment.fulfilment import (
    FREE_OF_CHARGE,
    CallLimits,
)
from eventbraid.examples.order_fulfilment.notifications import deliver_deferred
from eventbraid.examples.order_fulfilment.plan import DemoPlanned
from eventbraid.examples.order_fulfilment.purchases import purchases
from eventbraid.examples.order_fulfilment.services.payment_gateway import (
    PaymentRefused,
)
from eventbraid.examples.order_fulfilment.services.rates import NO_TROUBLE, Rates
from eventbraid.examples.order_fulfilment.services.simulation import (
    Simulation,
    payment_entries,
    shipping_entries,
)
from eventbraid.examples.order_fulfilment.services.suite import Services
from eventbraid.examples.order_fulfilment.shop import open_shop
from eventbraid.examples.order_fulfilment.values import Quantity, SagaId

pytestmark = pytest.mark.anyio

# A call that returns has time to do so on a busy machine.
QUICK = CallLimits(
    timeout=timedelta(seconds=30),
    initial_delay=timedelta(milliseconds=5),
    maximum_attempts=3,
)
# For calls that return late.
IMPATIENT = replace(QUICK, timeout=timedelta(seconds=1))


class Quiet:
    def __init__(self) -> None:
        self.told: list[str] = []

    def show(self, tally: Tally) -> None:
        self.last = tally

    def report(self, line: str) -> None:
        self.told.append(line)


def trouble(**rates):
    return Rates(
        **{
            "declined": 0,
            "unserved": 0,
            "failing": 0,
            "late": 0,
            "unreachable": 0,
            **rates,
        }
    )


def options(directory, **changes):
    return DemoOptions(
        **{
            "directory": directory,
            "limit": 40,
            "rates": NO_TROUBLE,
            "stock": 1_000,
            "limits": QUICK,
            "late_by": 1.5,
            **changes,
        }
    )


async def run(directory, **changes):
    result = await run_demo(options(directory, **changes), Quiet())
    assert result.reconciliation.is_clean, result.reconciliation.findings
    return result


def domain_types(directory, order):
    """How often which event is in the streams of one order."""
    name = order.removeprefix("order-")
    with eb.open(directory / "shop.braid", create=False) as store:
        streams = [f"{kind}-{name}" for kind in ("order", "payment", "shipment")]
        events = list(store.read_streams(streams).events)
        stock = [
            recorded
            for recorded in store.read_all(category="product")
            if order in recorded.data.decode()
        ]
    return Counter(recorded.type for recorded in (*events, *stock))


def timeline(directory, order):
    with eb.open(directory / "shop.braid", create=False) as store:
        return eb.saga.read_timeline(store, SagaId.of(order))


# --- the rows of the table


async def test_without_trouble_every_order_is_completed(tmp_path):
    sums = (await run(tmp_path)).reconciliation.sums
    assert (sums.orders, sums.completed, sums.cancelled) == (40, 40, 0)
    assert sums.captured == sums.value == sum(p.cents for p in purchases()[:40])
    assert sums.refunded == sums.deferred == 0
    assert sums.shipped == sums.reserved == sum(p.cds for p in purchases()[:40])


async def test_declined_the_order_is_cancelled_and_nothing_else_is_compensated(
    tmp_path,
):
    sums = (await run(tmp_path, rates=trouble(declined=1))).reconciliation.sums
    assert (sums.completed, sums.cancelled) == (0, 40)
    assert sums.captured == sums.refunded == sums.shipped == 0
    assert domain_types(tmp_path, order_id(1)) == {
        "order.submitted": 1,
        "order.cancelled": 1,
    }
    told = timeline(tmp_path, order_id(1))
    assert told.outcome is eb.SagaOutcome.COMPENSATED
    compensated = [entry.step for entry in told.entries if entry.what == "compensated"]
    assert compensated == ["submit order"]


async def test_short_of_any_item_the_payment_is_refunded_and_nothing_reserved(
    tmp_path,
):
    sums = (await run(tmp_path, stock=1, limit=80)).reconciliation.sums
    assert sums.cancelled
    assert sums.captured - sums.refunded == sums.completed_value
    with eb.open(tmp_path / "shop.braid", create=False) as store:
        released = list(store.read_all(types=["inventory.released"]))
        failed = [r.stream for r in store.read_all(types=["saga.compensated"])]
    assert released == []
    assert len(failed) == sums.cancelled
    order = SagaId(failed[0]).order
    assert domain_types(tmp_path, order) == {
        "order.submitted": 1,
        "payment.authorized": 1,
        "payment.captured": 1,
        "payment.refunded": 1,
        "payment.voided": 1,
        "order.cancelled": 1,
    }
    assert "insufficient_inventory" in (timeline(tmp_path, order).failure or "")


async def test_without_a_carrier_stock_is_released_and_payment_refunded(tmp_path):
    sums = (await run(tmp_path, rates=trouble(unserved=1))).reconciliation.sums
    assert sums.cancelled
    with eb.open(tmp_path / "shop.braid", create=False) as store:
        reserved = list(store.read_all(types=["inventory.reserved"]))
        released = list(store.read_all(types=["inventory.released"]))
        cancelled = list(store.read_all(types=["shipment.cancelled"]))
        failures = [
            eb.saga.read_timeline(store, recorded.stream).failure or ""
            for recorded in store.read_all(types=["saga.compensated"])
        ]
    assert len(reserved) > len(released) > 0
    # Refused before the shipment was known, and after: then it is cancelled too.
    assert {failure.split(":")[0] for failure in failures} == {
        "create shipment",
        "schedule pickup",
    }
    assert 0 < len(cancelled) < sums.cancelled


async def test_an_unreachable_customer_is_notified_later_and_the_order_stays_completed(
    tmp_path,
):
    result = await run(tmp_path, rates=trouble(unreachable=1))
    sums = result.reconciliation.sums
    assert (sums.completed, sums.deferred) == (40, 0)
    assert result.tally.notified_late == 40
    assert domain_types(tmp_path, order_id(1))["order.notification_deferred"] == 1
    assert domain_types(tmp_path, order_id(1))["order.customer_notified"] == 1
    told = timeline(tmp_path, order_id(1))
    assert told.outcome is eb.SagaOutcome.COMPLETED
    assert "given up" in {entry.what for entry in told.entries}


async def test_an_order_of_value_zero_skips_payment_and_its_timeline_says_so(tmp_path):
    number = next(p.number for p in purchases() if p.cents == 0)
    sums = (await run(tmp_path, limit=number)).reconciliation.sums
    assert sums.free_of_charge == 1
    order = order_id(number)
    assert "payment.captured" not in domain_types(tmp_path, order)
    told = timeline(tmp_path, order)
    skipped = {e.step: e.detail for e in told.entries if e.what == "skipped"}
    assert skipped == {
        "authorize payment": FREE_OF_CHARGE,
        "capture payment": FREE_OF_CHARGE,
    }


async def test_under_all_troubles_at_once_log_and_ledgers_agree(tmp_path):
    rates = Rates(declined=0.1, unserved=0.1, failing=0.2, late=0.02, unreachable=0.2)
    result = await run(tmp_path, limit=150, rates=rates, stock=3, limits=IMPATIENT)
    sums = result.reconciliation.sums
    assert sums.completed
    assert sums.cancelled
    assert sums.completed + sums.cancelled == 150


async def test_when_calls_only_fail_orders_are_compensated_by_key(tmp_path):
    """Outcomes stay unknown, so every step is compensated as if its call had succeeded."""
    result = await run(
        tmp_path,
        limit=60,
        rates=trouble(failing=0.5),
        limits=replace(QUICK, maximum_attempts=2),
    )
    assert result.reconciliation.sums.cancelled
    refunded = {e.key for e in payment_entries(tmp_path / "ledgers") if e.target}
    assert refunded


# --- again on the same directory


async def test_a_second_run_does_nothing_twice(tmp_path):
    rates = trouble(declined=0.1, failing=0.1)
    first = await run(tmp_path, rates=rates)
    entries = list(payment_entries(tmp_path / "ledgers"))
    shipments = list(shipping_entries(tmp_path / "ledgers"))
    second = await run(tmp_path, rates=rates)
    assert second.tally.ended_before == 40
    assert second.tally.at_rest == 0
    assert second.reconciliation.sums == first.reconciliation.sums
    assert list(payment_entries(tmp_path / "ledgers")) == entries
    assert list(shipping_entries(tmp_path / "ledgers")) == shipments


async def test_a_larger_second_run_goes_on_where_the_first_ended(tmp_path):
    await run(tmp_path, limit=20)
    second = await run(tmp_path, limit=50)
    assert (second.tally.ended_before, second.tally.at_rest) == (20, 30)
    assert second.reconciliation.sums.orders == 50


async def test_one_course_of_events_for_one_seed(tmp_path):
    rates = Rates(declined=0.2, unserved=0.2, failing=0.1, late=0, unreachable=0.1)
    sums = []
    for name, in_flight in (("a", 1), ("b", 64)):
        result = await run(tmp_path / name, rates=rates, in_flight=in_flight, limit=30)
        sums.append(result.reconciliation.sums)
    assert sums[0] == sums[1]


@pytest.mark.parametrize("changes", [{"seed": 2}, {"stock": 7}])
async def test_a_directory_keeps_its_seed_and_stock(tmp_path, changes):
    await run(tmp_path, limit=2)
    with pytest.raises(eb.CommandRejected) as rejected:
        await run(tmp_path, limit=2, **changes)
    assert rejected.value.code == "another_plan"


async def test_an_interrupted_run_is_gone_on_with(tmp_path):
    class Impatient:
        def show(self, tally):
            if tally.in_flight:
                scope.cancel()

    rates = trouble(failing=0.2, declined=0.1)
    # So few at once that no run is through before it is looked at.
    slow = options(tmp_path, limit=400, rates=rates, in_flight=4)
    for _ in range(3):
        with anyio.CancelScope() as scope:
            await run_demo(slow, Impatient())
        assert scope.cancelled_caught
    result = await run(tmp_path, limit=400, rates=rates)
    assert result.tally.at_rest
    assert result.reconciliation.sums.orders == 400


# --- what must be found out


async def test_a_gateway_that_charges_twice_is_found_out(tmp_path):
    result = await run_demo(options(tmp_path, double_charged=0.1), Quiet())
    broken = {rule for rule, found in result.reconciliation.findings.items() if found}
    assert broken == {
        "captured - refunded = value of completed orders",
        "log and payment ledger agree, key by key",
        "each key took effect at most once",
    }


async def test_a_compensation_that_fails_for_good_leaves_the_saga_stuck_and_told():
    """The gateway takes the money, the carrier does not go there, no refund works."""

    class Greedy:
        def __init__(self, gateway):
            self.authorize = gateway.authorize
            self.capture = gateway.capture

        async def refund(self, payment, amount, *, key):
            raise PaymentRefused("no refunds")

        async def void(self, payment, forward_key, *, key):
            raise PaymentRefused("no refunds")

    simulation = Simulation(rates=trouble(unserved=1), seed=1)
    usual = simulation.services_in_memory()
    services = Services(Greedy(usual.gateway), usual.carrier, usual.notifier)
    async with (
        eb.open_async("memory:") as store,
        open_shop(store, services, limits=QUICK) as shop,
    ):
        orders = [placed_order(p, 1) for p in purchases()[:10]]
        products = {item.product for placed in orders for item in placed.items}
        await shop.receive(products, Quantity(100), delivery="opening")
        outcomes = Counter()
        for placed in orders:
            outcomes[(await shop.fulfil(placed)).outcome] += 1
        stuck = await shop.coordinator.stuck()
        assert await shop.finish() == [summary.id for summary in stuck]
    assert outcomes[eb.SagaOutcome.STUCK] == len(stuck) > 0
    assert all("no refunds" in (summary.failure or "") for summary in stuck)


async def test_any_later_run_delivers_deferred_notifications():
    simulation = Simulation(rates=trouble(unreachable=1), seed=1)
    services = simulation.services_in_memory()
    async with (
        eb.open_async("memory:") as store,
        open_shop(store, services, limits=QUICK) as shop,
    ):
        placed = placed_order(purchases()[0], 1)
        products = [item.product for item in placed.items]
        await shop.receive(products, Quantity(100), delivery="opening")
        await shop.fulfil(placed)
        assert await deliver_deferred(store, services.notifier, rounds=1) == (0, 1)
        assert await deliver_deferred(store, services.notifier) == (1, 0)
        assert await deliver_deferred(store, services.notifier) == (0, 0)


# --- a directory that is not the demo's


def contents(directory):
    """Return the bytes of each file below a directory."""
    return {
        path.relative_to(directory): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


async def refused(directory, **changes):
    with pytest.raises(eb.errors.InvalidArgument, match="did not create") as caught:
        await run_demo(options(directory, limit=1, **changes), Quiet())
    assert caught.value.what == "directory"
    assert caught.value.value == str(directory)
    assert "give a directory of its own, or none" in str(caught.value)


@pytest.mark.parametrize("place", [".", "shop.braid"])
@pytest.mark.parametrize("coordinators", [1, 2])
@pytest.mark.parametrize(
    "stream", ["account-alice", "demo-plan", "demo-1"], ids=lambda stream: stream
)
async def test_a_store_of_its_user_is_refused_and_left_as_it_was(
    tmp_path, place, coordinators, stream
):
    location = tmp_path / place
    with eb.open(location) as store:
        store.append([(stream, "account.opened", b"{}")])
    before = contents(tmp_path)
    await refused(tmp_path, coordinators=coordinators)
    assert contents(tmp_path) == before
    assert not (tmp_path / "ledgers").exists()


async def test_a_store_of_its_user_that_is_in_use_is_refused_at_once(tmp_path):
    with anyio.fail_after(60), eb.open(tmp_path, mode="exclusive"):
        await refused(tmp_path)


async def test_an_empty_store_in_the_directory_itself_is_refused(tmp_path):
    eb.open(tmp_path).close()
    await refused(tmp_path)


async def test_a_plan_after_other_events_does_not_make_it_the_demos(tmp_path):
    with eb.open(tmp_path / "shop.braid") as store:
        store.append([("account-alice", "account.opened", b"{}")])
        store.append([eb.new_event("demo-plan", DemoPlanned(1, Quantity(5)))])
    await refused(tmp_path)


async def test_a_demo_that_died_before_its_plan_goes_on(tmp_path):
    eb.open(tmp_path / "shop.braid").close()
    await run(tmp_path, limit=1)


async def test_files_that_are_no_store_stay_beside_the_demo(tmp_path):
    (tmp_path / "notes.txt").write_text("remember the milk")
    await run(tmp_path, limit=1)
    assert (tmp_path / "notes.txt").read_text() == "remember the milk"
