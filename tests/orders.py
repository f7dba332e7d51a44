"""Orders to place at the order API, over whatever it is asked through."""

from __future__ import annotations

import json

import eventbraid as eb
from eventbraid.examples.order_fulfilment.orders import OrderSubmitted, PlacedOrder
from eventbraid.examples.order_fulfilment.values import OrderId


def headers_of(key: str) -> dict[str, str]:
    return {"Content-Type": "application/json", "Idempotency-Key": key}


def an_order(
    *,
    customer: str = "customer-1",
    quantity: object = 2,
    token: str = "tok_1",
    lines: int = 1,
    twice: bool = False,
    **more: object,
) -> bytes:
    """The body of a request; by default two pieces at 15 dollars each."""
    items = [
        {"product": f"product-{n + 1:03d}", "quantity": quantity, "unit_price": 1500}
        for n in range(lines)
    ]
    address = {
        "name": "Mia",
        "street": "1 Market Street",
        "city": "Boston",
        "postal_code": "02108",
        "country": "US",
    }
    order = {
        "customer": customer,
        "items": items * (2 if twice else 1),
        "address": address,
        "method": {"token": token, "brand": "Visa", "last_four": "0042"},
        **more,
    }
    return json.dumps(order).encode()


async def fulfilled(shop, events: str) -> None:
    """Fulfil an order that was taken, to its end."""
    order = OrderId(events.split("/")[2])
    async for recorded in shop.store.read_stream(order, limit=1):
        submitted = eb.decode_event(recorded)
        assert isinstance(submitted, OrderSubmitted)
        placed = PlacedOrder(
            order=order,
            customer=submitted.customer,
            items=submitted.items,
            address=submitted.address,
            method=submitted.method,
        )
        await shop.fulfil(placed)
