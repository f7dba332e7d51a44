"""The simulated services honour keys, keep their effects, and fail as configured.

The hazard of most of these: a lost or late answer makes the caller repeat the request, or
reverse an effect that has not happened yet. Whatever order requests arrive in, a key takes
effect at most once, and one that was reversed first takes none.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

import eventbraid as eb
from eventbraid.examples.order_fulfilment.services.carrier import (
    ShippingRefused,
    ShippingUnavailable,
    SimulatedCarrier,
    shipping_rule,
)
from eventbraid.examples.order_fulfilment.services.chance import happens, share
from eventbraid.examples.order_fulfilment.services.ledger import Entry, Request
from eventbraid.examples.order_fulfilment.services.memory_ledger import MemoryLedger
from eventbraid.examples.order_fulfilment.services.network import Network
from eventbraid.examples.order_fulfilment.services.notifier import (
    FAILED_ATTEMPTS,
    CustomerUnreachable,
    SimulatedNotifier,
)
from eventbraid.examples.order_fulfilment.services.payment_gateway import (
    PaymentDeclined,
    PaymentRefused,
    SimulatedPaymentGateway,
    double_charging,
    payment_rule,
)
from eventbraid.examples.order_fulfilment.services.rates import NO_TROUBLE, Rates
from eventbraid.examples.order_fulfilment.services.sqlite_ledger import (
    SqliteLedger,
    read_entries,
)
from eventbraid.examples.order_fulfilment.values import (
    CardToken,
    Country,
    CustomerId,
    LastFour,
    Line,
    Money,
    OrderId,
    PaymentId,
    PaymentMethod,
    Quantity,
    ShipmentId,
    ShippingAddress,
)

pytestmark = pytest.mark.anyio

PAYMENT, SHIPMENT = PaymentId("payment-1"), ShipmentId("shipment-1")
METHOD = PaymentMethod(CardToken("tok_1"), Line("Visa"), LastFour("4242"))
ADDRESS = ShippingAddress(
    Line("Mia"), Line("1 Market Street"), Line("Boston"), Line("02108"), Country("US")
)
PRICE = Money(1501)
# The delay of a request that arrives when its ledger is closed, and not before: the wait
# is longer than any test.
NEVER_IN_TIME = 3600.0


@pytest.fixture(params=["memory", "sqlite"])
async def ledgers(request, tmp_path):
    """Makes ledgers of one kind, by their rule; open until the test ends."""
    if request.param == "memory":
        yield MemoryLedger
        return
    opened = []

    async def close():
        for ledger in opened:
            await ledger.__aexit__(None, None, None)

    def make(rule):
        ledger = SqliteLedger(tmp_path / f"{len(opened)}.sqlite", rule)
        opened.append(ledger)
        return ledger

    yield make
    await close()


async def opened(ledger):
    return await ledger.__aenter__() if isinstance(ledger, SqliteLedger) else ledger


async def gateway_over(ledger, rates=NO_TROUBLE, **options):
    ledger = await opened(ledger)
    return SimulatedPaymentGateway(Network(ledger, rates, **options)), ledger


async def carrier_over(ledger, rates=NO_TROUBLE, **options):
    ledger = await opened(ledger)
    return SimulatedCarrier(Network(ledger, rates, **options)), ledger


def effects(ledger):
    return [(entry.key, entry.effect, entry.amount) for entry in ledger.entries()]


# --- the gateway


async def test_money_is_authorized_captured_and_given_back_once_a_key(ledgers):
    gateway, ledger = await gateway_over(ledgers(payment_rule()))
    for _ in range(3):
        authorization = await gateway.authorize(PAYMENT, METHOD, PRICE, key="a")
        receipt = await gateway.capture(PAYMENT, PRICE, key="c")
    for _ in range(3):
        reversal = await gateway.refund(PAYMENT, PRICE, key="r")
    assert (authorization.amount, receipt.amount, reversal.amount) == (PRICE,) * 3
    assert effects(ledger) == [
        ("a", "authorized", 1501),
        ("c", "captured", 1501),
        ("r", "refunded", 1501),
    ]


async def test_a_capture_that_arrives_after_its_void_is_refused(ledgers):
    gateway, ledger = await gateway_over(ledgers(payment_rule()))
    await gateway.authorize(PAYMENT, METHOD, PRICE, key="a")
    reversal = await gateway.void(PAYMENT, "c", key="v")
    with pytest.raises(PaymentRefused):
        await gateway.capture(PAYMENT, PRICE, key="c")
    assert int(reversal.amount) == 0
    assert "captured" not in {effect for _, effect, _ in effects(ledger)}


async def test_a_capture_under_way_while_it_is_voided_takes_nothing(tmp_path):
    """The gateway executes the capture after it has seen the refund."""
    path = tmp_path / "payments.sqlite"
    async with SqliteLedger(path, payment_rule()) as ledger:
        gateway, _ = await gateway_over_open(ledger)
        await gateway.authorize(PAYMENT, METHOD, PRICE, key="a")
        late = Request(key="c", action="capture", subject=PAYMENT, amount=1501)
        with anyio.move_on_after(0.05):
            await ledger.post(late, delay=NEVER_IN_TIME)
        reversal = await gateway.void(PAYMENT, "c", key="v")
        assert int(reversal.amount) == 0
        assert [entry.key for entry in ledger.entries()] == ["a", "v"]
    assert [(e.key, e.effect) for e in read_entries(path)] == [
        ("a", "authorized"),
        ("v", "voided"),
        ("c", "refused"),
    ]


async def gateway_over_open(ledger, rates=NO_TROUBLE, **options):
    return SimulatedPaymentGateway(Network(ledger, rates, **options)), ledger


async def test_a_void_gives_back_what_its_call_took_and_only_once(ledgers):
    gateway, ledger = await gateway_over(ledgers(payment_rule()))
    await gateway.authorize(PAYMENT, METHOD, PRICE, key="a")
    await gateway.capture(PAYMENT, PRICE, key="c")
    first = await gateway.void(PAYMENT, "c", key="v")
    again = await gateway.void(PAYMENT, "c", key="v")
    other = await gateway.void(PAYMENT, "c", key="v2")
    assert first == again
    assert (int(first.amount), int(other.amount)) == (1501, 0)
    assert sum(a for _, effect, a in effects(ledger) if effect == "refunded") == 1501


async def test_what_was_not_taken_cannot_be_given_back(ledgers):
    gateway, _ = await gateway_over(ledgers(payment_rule()))
    await gateway.authorize(PAYMENT, METHOD, PRICE, key="a")
    with pytest.raises(PaymentRefused):
        await gateway.refund(PAYMENT, PRICE, key="r")


async def test_a_capture_needs_an_authorization_that_stands(ledgers):
    gateway, _ = await gateway_over(ledgers(payment_rule()))
    with pytest.raises(PaymentRefused):
        await gateway.capture(PAYMENT, PRICE, key="c1")
    await gateway.authorize(PAYMENT, METHOD, PRICE, key="a")
    with pytest.raises(PaymentRefused):
        await gateway.capture(PAYMENT, Money(1502), key="c2")
    await gateway.void(PAYMENT, "a", key="v")
    with pytest.raises(PaymentRefused):
        await gateway.capture(PAYMENT, PRICE, key="c3")


async def test_a_declined_payment_stays_declined(ledgers):
    gateway, ledger = await gateway_over(ledgers(payment_rule(declined=1)))
    for _ in range(2):
        with pytest.raises(PaymentDeclined):
            await gateway.authorize(PAYMENT, METHOD, PRICE, key="a")
    assert effects(ledger) == [("a", "declined", 0)]


async def test_the_faulty_gateway_really_charges_twice(ledgers):
    gateway, ledger = await gateway_over(
        ledgers(double_charging(payment_rule(), rate=1))
    )
    await gateway.authorize(PAYMENT, METHOD, PRICE, key="a")
    await gateway.capture(PAYMENT, PRICE, key="c")
    assert effects(ledger).count(("c", "captured", 1501)) == 2


# --- the carrier


async def test_a_shipment_goes_its_way_once_a_key(ledgers):
    carrier, ledger = await carrier_over(ledgers(shipping_rule()))
    for _ in range(2):
        label = await carrier.create_shipment(SHIPMENT, ADDRESS, Quantity(3), key="n")
        await carrier.schedule_pickup(SHIPMENT, key="s")
        dispatch = await carrier.dispatch(SHIPMENT, key="d")
    assert label.pieces == Quantity(3)
    assert dispatch.tracking_number == "TRACK-1"
    assert effects(ledger) == [
        ("n", "created", 3),
        ("s", "scheduled", 3),
        ("d", "dispatched", 3),
    ]


async def test_whatever_arrives_after_the_cancellation_is_refused(ledgers):
    carrier, ledger = await carrier_over(ledgers(shipping_rule()))
    await carrier.cancel(SHIPMENT, "n", key="x")
    with pytest.raises(ShippingRefused):
        await carrier.create_shipment(SHIPMENT, ADDRESS, Quantity(3), key="n")
    with pytest.raises(ShippingRefused):
        await carrier.create_shipment(SHIPMENT, ADDRESS, Quantity(3), key="n2")
    with pytest.raises(ShippingRefused):
        await carrier.schedule_pickup(SHIPMENT, key="s")
    assert "created" not in {effect for _, effect, _ in effects(ledger)}


async def test_a_pickup_under_way_while_its_shipment_is_cancelled_is_refused(ledgers):
    carrier, _ = await carrier_over(ledgers(shipping_rule()))
    await carrier.create_shipment(SHIPMENT, ADDRESS, Quantity(3), key="n")
    await carrier.cancel(SHIPMENT, "n", key="x")
    with pytest.raises(ShippingRefused):
        await carrier.schedule_pickup(SHIPMENT, key="s")
    with pytest.raises(ShippingRefused):
        await carrier.dispatch(SHIPMENT, key="d")


async def test_what_is_on_its_way_cannot_be_cancelled(ledgers):
    carrier, _ = await carrier_over(ledgers(shipping_rule()))
    await carrier.create_shipment(SHIPMENT, ADDRESS, Quantity(3), key="n")
    with pytest.raises(ShippingRefused):
        await carrier.dispatch(SHIPMENT, key="early")
    await carrier.schedule_pickup(SHIPMENT, key="s")
    await carrier.dispatch(SHIPMENT, key="d")
    with pytest.raises(ShippingRefused):
        await carrier.cancel(SHIPMENT, "n", key="x")


async def test_an_unserved_shipment_stays_unserved(ledgers):
    carrier, _ = await carrier_over(ledgers(shipping_rule(unserved=1, seed=1)))
    refused = 0
    for n in range(20):
        shipment = ShipmentId(f"shipment-{n}")
        for _ in range(2):
            try:
                await carrier.create_shipment(
                    shipment, ADDRESS, Quantity(1), key=f"n{n}"
                )
            except ShippingUnavailable:
                refused += 1
    assert refused % 2 == 0
    assert 0 < refused < 40


# --- the network


async def test_lost_calls_take_effect_half_of_the_time_and_never_twice(ledgers):
    rates = Rates(declined=0, unserved=0, failing=1, late=0, unreachable=0)
    gateway, ledger = await gateway_over(ledgers(payment_rule()), rates)
    for n in range(40):
        for _ in range(3):
            with pytest.raises(ConnectionError):
                await gateway.authorize(
                    PaymentId(f"payment-{n}"), METHOD, PRICE, key=f"k{n}"
                )
    keys = [key for key, _, _ in effects(ledger)]
    assert len(keys) == len(set(keys))
    assert 0 < len(keys) <= 40


async def test_late_calls_arrive_although_nobody_waits(tmp_path):
    rates = Rates(declined=0, unserved=0, failing=0, late=1, unreachable=0)
    path = tmp_path / "payments.sqlite"
    async with SqliteLedger(path, payment_rule()) as ledger:
        gateway, _ = await gateway_over_open(ledger, rates, late_by=NEVER_IN_TIME)
        for n in range(8):
            with anyio.move_on_after(0.02) as patience:
                await gateway.authorize(
                    PaymentId(f"payment-{n}"), METHOD, PRICE, key=f"k{n}"
                )
            assert patience.cancelled_caught
        # The ledger takes requests in order: with this one, all of them have arrived that
        # are not delayed.
        await ledger.post(Request(key="last", action="authorize", subject="payment-8"))
        arrived = {entry.key for entry in ledger.entries()} - {"last"}
    assert 0 < len(arrived) < 8
    assert {entry.key for entry in read_entries(path)} == {
        "last",
        *(f"k{n}" for n in range(8)),
    }


async def test_trouble_hangs_on_seed_key_and_attempt_not_on_call_order():
    rates = Rates(declined=0, unserved=0, failing=0.5, late=0, unreachable=0)

    async def course(keys):
        network = Network(MemoryLedger(payment_rule()), rates, seed=7)
        gateway = SimulatedPaymentGateway(network)
        found = {}
        for key in keys:
            found[key] = []
            for _ in range(4):
                try:
                    await gateway.authorize(PAYMENT, METHOD, PRICE, key=key)
                except ConnectionError as error:
                    found[key].append(type(error).__name__)
                else:
                    found[key].append("fine")
                    break
        return found

    keys = [f"k{n}" for n in range(30)]
    assert await course(keys) == await course(list(reversed(keys)))


async def test_chance_is_even_and_repeatable():
    draws = [share(1, "x", n) for n in range(2_000)]
    assert draws == [share(1, "x", n) for n in range(2_000)]
    assert 0.45 < sum(draws) / len(draws) < 0.55
    assert not happens(0, 1, "never")
    assert happens(1, 1, "always")


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
async def test_a_rate_is_a_share(rate):
    with pytest.raises(eb.InvalidValue):
        Rates(late=rate)


# --- the notifier


async def test_an_unreachable_customer_is_reached_in_the_end():
    notifier = SimulatedNotifier(unreachable=1)
    customer, order = CustomerId("customer-1"), OrderId("order-1")
    for _ in range(FAILED_ATTEMPTS):
        with pytest.raises(CustomerUnreachable):
            await notifier.notify(customer, order, "on its way", key="k")
    await notifier.notify(customer, order, "on its way", key="k")
    await notifier.notify(customer, order, "on its way", key="k")
    assert notifier.delivered == {"k": (customer, order, "on its way")}


# --- the ledger on disk


async def test_what_was_answered_stands_in_the_file(tmp_path):
    path = tmp_path / "payments.sqlite"
    async with SqliteLedger(path, payment_rule()) as ledger:
        await ledger.post(
            Request(key="a", action="authorize", subject=PAYMENT, amount=5)
        )
        assert list(read_entries(path)) == [
            Entry("a", "authorized", PAYMENT, 5, "", "AUTH-1")
        ]


async def test_a_ledger_that_is_opened_again_knows_its_keys(tmp_path):
    path = tmp_path / "payments.sqlite"
    request = Request(key="a", action="authorize", subject=PAYMENT, amount=5)
    for _ in range(3):
        async with SqliteLedger(path, payment_rule()) as ledger:
            await ledger.post(request)
    assert len(list(read_entries(path))) == 1


async def test_calls_in_flight_share_commits_and_one_thread(tmp_path):
    path = tmp_path / "payments.sqlite"
    async with SqliteLedger(path, payment_rule()) as ledger:
        before = threading.active_count()
        async with anyio.create_task_group() as tasks:
            for n in range(500):
                tasks.start_soon(
                    ledger.post,
                    Request(
                        key=f"k{n}", action="authorize", subject=f"payment-{n % 50}"
                    ),
                )
            await anyio.lowlevel.checkpoint()
            assert threading.active_count() == before
    assert len({entry.key for entry in read_entries(path)}) == 500


async def test_a_ledger_that_cannot_be_written_tells_its_callers(tmp_path):
    def broken(request, history):
        raise LookupError(f"no rule for {request.action}")

    async with SqliteLedger(tmp_path / "payments.sqlite", broken) as ledger:
        with pytest.raises(OSError, match="no rule for authorize"):
            await ledger.post(Request(key="k", action="authorize", subject=PAYMENT))


async def test_a_missing_ledger_has_no_entries(tmp_path):
    assert list(read_entries(tmp_path / "none.sqlite")) == []


def test_a_new_ledger_can_be_opened_at_several_places_at_once(tmp_path):
    """SQLite fails a change of the journal mode at once if the file is locked."""
    places, rounds = 4, 30
    together = threading.Barrier(places)

    async def open_and_close(path):
        async with SqliteLedger(path, payment_rule()):
            pass

    def open_ledgers():
        for number in range(rounds):
            together.wait(60)
            anyio.run(open_and_close, tmp_path / f"{number}.db")

    with ThreadPoolExecutor(places) as threads:
        for opened in [threads.submit(open_ledgers) for _ in range(places)]:
            opened.result()
