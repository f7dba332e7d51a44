"""`POST /orders`: one command under the client's idempotency key.

The order's id is derived from the key. So a repeated request results in the same
command at any worker, and the store returns the result of the first one. The submission
of an order is one durable commit; the coordinator fulfils the order later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from eventbraid import web

from ..order_fulfilment.orders import OrderStatus, SubmitOrder
from ..order_fulfilment.values import OrderId, total_of
from .intake import wanted_order

if TYPE_CHECKING:
    from starlette.requests import Request

    from .intake import WantedOrder
    from .serving import Serving

# A shop with accounts would prefix the key with the customer's account.
_SCOPE = "order-api"


async def place_order(request: Request[Serving]) -> Response:
    """Submit an order: 201, and for a repeated request 201 with the same body."""
    key = web.idempotency_key(request)
    wanted = await wanted_order(request, request.state["body_timeout"])
    order = OrderId.derived(_SCOPE, key)
    done = await web.executor(request).execute(
        submission(order, wanted), idempotency_key=f"{_SCOPE}/{key}"
    )
    headers = {"Location": f"/orders/{order}"}
    if done.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(
        receipt(order, wanted), 201, headers=headers, media_type="application/json"
    )


def submission(order: OrderId, wanted: WantedOrder) -> SubmitOrder:
    """Build the command that submits an order."""
    return SubmitOrder(
        order=order,
        customer=wanted.customer,
        items=wanted.items,
        address=wanted.address,
        method=wanted.method,
    )


def receipt(order: OrderId, wanted: WantedOrder) -> bytes:
    """Build the response body from the request alone, so that a replay has the same."""
    return msgspec.json.encode(
        {
            "order": str(order),
            "status": OrderStatus.SUBMITTED.value,
            "total": int(total_of(wanted.items)),
            "events": f"/orders/{order}/events",
        }
    )
