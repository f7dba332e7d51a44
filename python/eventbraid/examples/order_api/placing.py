"""`POST /orders`: one command under the client's idempotency key, then the answer.

The order's id is derived from the key. So a request that is sent again, to whichever
worker, makes the same command, and the store answers it with the first one's result.
That the order is taken is one durable commit; fulfilling it is the coordinator's part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from ..order_fulfilment.orders import OrderStatus, SubmitOrder
from ..order_fulfilment.values import OrderId, total_of
from .intake import idempotency_key, wanted_order

if TYPE_CHECKING:
    from starlette.requests import Request

    from .intake import WantedOrder
    from .serving import Serving

# A shop with accounts would put the customer's account in front of the key as well.
_SCOPE = "order-api"


async def place_order(request: Request[Serving]) -> Response:
    """Take an order: 201, and 201 again with the same body for the same request."""
    key = idempotency_key(request.headers)
    wanted = await wanted_order(request, request.state["body_timeout"])
    order = OrderId.derived(_SCOPE, key)
    done = await request.state["executor"].execute(
        submission(order, wanted), idempotency_key=f"{_SCOPE}/{key}"
    )
    headers = {"Location": f"/orders/{order}"}
    if done.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(
        receipt(order, wanted), 201, headers=headers, media_type="application/json"
    )


def submission(order: OrderId, wanted: WantedOrder) -> SubmitOrder:
    """The command that takes an order."""
    return SubmitOrder(
        order=order,
        customer=wanted.customer,
        items=wanted.items,
        address=wanted.address,
        method=wanted.method,
    )


def receipt(order: OrderId, wanted: WantedOrder) -> bytes:
    """The answer, which depends on nothing but the request: a replay has the same."""
    return msgspec.json.encode(
        {
            "order": str(order),
            "status": OrderStatus.SUBMITTED.value,
            "total": int(total_of(wanted.items)),
            "events": f"/orders/{order}/events",
        }
    )
