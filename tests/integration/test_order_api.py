"""The order API, asked without a network: what it takes, refuses, repeats and tells.

The hazards: an order that is taken twice because its answer was lost, a key that stands
for two orders, a live stream that misses what happens while it begins, and one that
never ends.
"""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager

import anyio
import pytest

import eventbraid as eb
from eventbraid.examples.order_api.app import order_api
from eventbraid.examples.order_api.intake import LARGEST_BODY, MOST_ITEMS
from eventbraid.examples.order_api.story import Story
from eventbraid.examples.order_fulfilment.orders import CancelOrder
from eventbraid.examples.order_fulfilment.services.rates import NO_TROUBLE
from eventbraid.examples.order_fulfilment.services.simulation import Simulation
from eventbraid.examples.order_fulfilment.shop import open_shop
from eventbraid.examples.order_fulfilment.values import OrderId, ProductId, Quantity
from tests.asgi import served
from tests.orders import an_order, fulfilled, headers_of

pytestmark = pytest.mark.anyio

# The largest length of a client's key.
MOST_KEY = 200
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def api(anyio_backend):
    async with served(order_api("memory:")) as started:
        yield started


@pytest.fixture
def store(api):
    return api.state["store"]


async def place(api, key="k-1", **changes):
    return await api.ask("POST", "/orders", headers_of(key), an_order(**changes))


async def taken(store):
    return [one.stream async for one in store.read_all(types=("order.submitted",))]


def assert_problem(answer, status, kind):
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    standard = {"type", "title", "status", "detail"}
    extensions = {"code", "facts"} if kind == "command-rejected" else set()
    assert set(answer.json) == standard | extensions
    assert answer.json["status"] == status
    wanted = f"/problems/{kind}" if kind else "about:blank"
    assert answer.json["type"] == wanted


# --- taking orders -------------------------------------------------------------------


async def test_an_order_is_taken_and_can_be_found(api, store):
    answer = await place(api)
    assert answer.status == 201
    order = answer.json["order"]
    assert answer.json == {
        "order": order,
        "status": "submitted",
        "total": 3000,
        "events": f"/orders/{order}/events",
    }
    assert answer.headers["location"] == f"/orders/{order}"
    assert "idempotency-replayed" not in answer.headers
    assert await taken(store) == [order]
    shown = await api.ask("GET", answer.headers["location"])
    assert (shown.status, shown.json) == (200, answer.json)


async def test_a_retry_is_answered_as_a_replay_with_the_same_body(api, store):
    first = await place(api)
    # Where the order stands now does not matter: the answer is the first one's.
    await eb.AsyncExecutor(store).execute(
        CancelOrder(order=OrderId(first.json["order"]), reason="changed my mind")
    )
    again = await place(api)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert await taken(store) == [first.json["order"]]


async def test_quotes_do_not_make_another_key(api, store):
    first = await place(api, key="k-1")
    again = await place(api, key='"k-1"')
    assert again.body == first.body
    assert again.headers["idempotency-replayed"] == "true"
    assert len(await taken(store)) == 1


async def test_different_keys_are_different_orders(api, store):
    orders = {(await place(api, key=f"k-{n}")).json["order"] for n in range(5)}
    assert len(orders) == 5
    assert set(await taken(store)) == orders


async def test_retries_at_the_same_time_are_one_order(api, store):
    answers = []

    async def one():
        answers.append(await place(api))

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(one)
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    replays = [a for a in answers if a.headers.get("idempotency-replayed") == "true"]
    assert len(replays) == 19
    assert len(await taken(store)) == 1


async def test_a_known_key_with_another_order_is_refused(api, store):
    await place(api)
    assert_problem(await place(api, quantity=3), 422, "idempotency-key-reused")
    assert len(await taken(store)) == 1


@pytest.mark.parametrize(
    ("headers", "body", "status", "kind"),
    [
        (JSON, an_order(), 400, "idempotency-key-missing"),
        (headers_of(""), an_order(), 400, "idempotency-key-malformed"),
        (headers_of("two words"), an_order(), 400, "idempotency-key-malformed"),
        (headers_of('"open'), an_order(), 400, "idempotency-key-malformed"),
        (headers_of("k" * (MOST_KEY + 1)), an_order(), 400, "idempotency-key-malformed"),
        (headers_of("schlüssel"), an_order(), 400, "idempotency-key-malformed"),
        ({"Idempotency-Key": "k-1"}, an_order(), 415, "not-json"),
        (headers_of("k") | {"Content-Type": "text/plain"}, an_order(), 415, "not-json"),
        (headers_of("k"), b"", 400, "not-json"),
        (headers_of("k"), b'{"customer":', 400, "not-json"),
        (headers_of("k"), b"\xff", 400, "not-json"),
        (headers_of("k"), b"[" * 60_000, 422, "not-an-order"),
        (headers_of("k"), b"[]", 422, "not-an-order"),
        (headers_of("k"), b"{}", 422, "not-an-order"),
        (headers_of("k"), an_order(quantity=0), 422, "not-an-order"),
        (headers_of("k"), an_order(quantity="2"), 422, "not-an-order"),
        (headers_of("k"), an_order(customer="mia"), 422, "not-an-order"),
        (headers_of("k"), an_order(token="4111111111111111"), 422, "not-an-order"),
        (headers_of("k"), an_order(gift=True), 422, "not-an-order"),
        (headers_of("k"), an_order(lines=0), 422, "not-an-order"),
        (headers_of("k"), an_order(lines=MOST_ITEMS + 1), 422, "not-an-order"),
        (headers_of("k"), an_order(twice=True), 422, "command-rejected"),
        (headers_of("k"), b" " * (LARGEST_BODY + 1), 413, "body-too-large"),
    ],
)  # fmt: skip
async def test_what_is_no_order_is_refused(api, store, headers, body, status, kind):
    assert_problem(await api.ask("POST", "/orders", headers, body), status, kind)
    assert await store.head() == 0


async def test_two_keys_are_none(api, store):
    headers = [*headers_of("k-1").items(), ("Idempotency-Key", "k-2")]
    answer = await api.ask("POST", "/orders", headers, an_order())
    assert_problem(answer, 400, "idempotency-key-malformed")
    assert await store.head() == 0


async def test_a_refused_order_leaves_its_key_free(api, store):
    refused = await place(api, twice=True)
    assert_problem(refused, 422, "command-rejected")
    assert refused.json["code"] == "malformed_order"
    assert refused.json["facts"] == {"lines": 2, "products": 1}
    assert (await place(api)).status == 201


async def test_the_largest_order_is_taken(api):
    body = an_order(lines=MOST_ITEMS)
    padded = body + b" " * (LARGEST_BODY - len(body))
    answer = await api.ask("POST", "/orders", headers_of("k" * MOST_KEY), padded)
    assert answer.status == 201


@pytest.mark.parametrize("path", ["/orders/order-none", "/orders/order-none/events"])
async def test_an_unknown_order_is_not_found(api, path):
    assert_problem(await api.ask("GET", path), 404, "no-such-order")


@pytest.mark.parametrize("given", ["customer-1", "x" * 300, "order-", "saga-1"])
async def test_an_id_that_no_order_can_have_is_not_found(api, given):
    assert_problem(await api.ask("GET", f"/orders/{given}"), 404, "no-such-order")


async def test_what_the_framework_refuses_is_a_problem_too(api):
    assert_problem(await api.ask("GET", "/nowhere"), 404, None)
    wrong = await api.ask("DELETE", "/orders")
    assert_problem(wrong, 405, None)
    assert "POST" in wrong.headers["allow"]


# --- the store's errors ---------------------------------------------------------------


async def test_an_order_that_cannot_be_kept_is_not_acknowledged(api, store):
    await store.close()
    answer = await place(api)
    assert_problem(answer, 503, "store-out-of-service")
    assert answer.headers["retry-after"] == "5"


# --- the live stream ------------------------------------------------------------------


@asynccontextmanager
async def a_shop(store):
    services = Simulation(rates=NO_TROUBLE).services_in_memory()
    async with open_shop(store, services) as shop:
        await shop.receive([ProductId("product-001")], Quantity(100), delivery="test")
        yield shop


async def test_the_stream_tells_what_was_and_then_what_comes(api, store):
    events = (await place(api)).json["events"]
    async with a_shop(store) as shop, api.listen("GET", events) as live:
        assert live.status == 200
        assert live.headers["content-type"].startswith("text/event-stream")
        assert live.headers["cache-control"] == "no-store"
        [first] = await live.named("submitted")
        assert first.data == {"total": 3000}
        await fulfilled(shop, events)
        heard = [event async for event in live]
    names = [event.name for event in heard]
    assert names[0] == "accepted"
    assert names[-1] == "ended"
    assert "completed" in names
    positions = [int(event.id) for event in (first, *heard)]
    assert positions == sorted(set(positions))


async def test_a_client_that_comes_again_hears_only_what_came_after(api, store):
    events = (await place(api)).json["events"]
    async with a_shop(store) as shop:
        await fulfilled(shop, events)
    async with api.listen("GET", events) as live:
        everything = [event async for event in live if event.name]
    for place_, known in enumerate(everything[:-1]):
        headers = {"Last-Event-ID": known.id}
        async with api.listen("GET", events, headers) as live:
            rest = [event async for event in live if event.name]
        assert rest == everything[place_ + 1 :]
    # Whoever knows the end is told not to come again.
    done = await api.ask("GET", events, {"Last-Event-ID": everything[-1].id})
    assert (done.status, done.body) == (204, b"")


@pytest.mark.parametrize("given", ["x", "-1", "", "9" * 30, "12345", "²", "0x1"])
async def test_a_place_that_the_stream_does_not_have_is_refused(api, given):
    events = (await place(api)).json["events"]
    answer = await api.ask("GET", events, {"Last-Event-ID": given})
    assert_problem(answer, 400, "unknown-event-id")


async def test_a_silent_stream_shows_that_it_is_there(anyio_backend):
    async with served(order_api("memory:", heartbeat=0.01)) as api:
        events = (await place(api)).json["events"]
        async with api.listen("GET", events) as live:
            comments = 0
            async for event in live:
                comments += event.comment == "still here"
                if comments == 3:
                    break
        assert comments == 3


async def test_all_readers_share_one_subscription_and_leave_none(api, store):
    wakeups = api.state["wakeups"]
    placed = [(await place(api, key=f"k-{n}")).json["events"] for n in range(4)]
    assert not wakeups.following
    async with anyio.create_task_group() as tasks:
        heard = []

        async def follow(events):
            async with api.listen("GET", events) as live:
                await live.named("submitted")
                heard.append((await live.named("cancelled"))[0].data)

        for events in placed * 5:
            tasks.start_soon(follow, events)
        with anyio.fail_after(30):
            while wakeups.listeners < 20:
                await anyio.lowlevel.checkpoint()
        assert wakeups.following
        for events in placed:
            order = OrderId(events.split("/")[2])
            await eb.AsyncExecutor(store).execute(
                CancelOrder(order=order, reason="sold out")
            )
    assert heard == [{"reason": "sold out"}] * 20
    assert wakeups.listeners == 0
    assert not wakeups.following


async def test_what_is_recorded_while_a_reader_reads_is_not_missed(
    api, store, monkeypatch
):
    """The reader's snapshot is taken, then the order changes, then the reader waits."""
    wakeups = api.state["wakeups"]
    events = (await place(api)).json["events"]
    cancel = CancelOrder(order=OrderId(events.split("/")[2]), reason="sold out")
    read_on = Story.read_on

    async def read_on_slowly(story):
        changes = await read_on(story)
        if wakeups.following and not changes:
            await eb.AsyncExecutor(store).execute(cancel)
            # The wakeup is notified before the reader has its empty result.
            while wakeups._subscription.position < await store.head():
                await anyio.lowlevel.checkpoint()
        return changes

    monkeypatch.setattr(Story, "read_on", read_on_slowly)
    with anyio.fail_after(30):
        async with api.listen("GET", events) as live:
            await live.named("submitted", "cancelled")


async def test_a_silent_stream_reads_only_when_something_was_recorded(
    anyio_backend, monkeypatch
):
    reads = 0
    read_on = Story.read_on

    async def counted(story):
        nonlocal reads
        reads += 1
        return await read_on(story)

    monkeypatch.setattr(Story, "read_on", counted)
    async with served(order_api("memory:", heartbeat=0.05)) as api:
        events = (await place(api)).json["events"]
        await place(api, key="k-2")
        async with api.listen("GET", events) as live:
            await live.named("submitted")
            order = OrderId(events.split("/")[2])
            await eb.AsyncExecutor(api.state["store"]).execute(
                CancelOrder(order=order, reason="sold out")
            )
            await live.named("cancelled")
            before = reads
            heartbeats = 0
            async for event in live:
                heartbeats += event.comment == "still here"
                # Another order is nothing to this stream.
                await place(api, key=f"other-{heartbeats}")
                if heartbeats == 4:
                    break
    # The one that found nothing more to tell.
    assert reads - before <= 1


async def test_a_signal_ends_the_streams_and_is_handed_on(anyio_backend):
    arrived = []
    before = signal.signal(signal.SIGTERM, lambda *_: arrived.append("server"))
    try:
        async with served(order_api("memory:")) as api:
            events = (await place(api)).json["events"]
            async with api.listen("GET", events) as live:
                await live.named("submitted")
                signal.raise_signal(signal.SIGTERM)
                with anyio.fail_after(30):
                    assert [event async for event in live] == []
            assert arrived == ["server"]
            late = await api.ask("GET", events)
            assert_problem(late, 503, "ending")
            # Orders are still taken, up to the server's own end.
            assert (await place(api, key="k-2")).status == 201
        assert signal.getsignal(signal.SIGTERM) is not None
    finally:
        signal.signal(signal.SIGTERM, before)
