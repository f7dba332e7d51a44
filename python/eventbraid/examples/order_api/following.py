"""`GET /orders/...`: where an order stands, once or live.

The live stream is of server-sent events: first what has happened, then what happens,
then the end. A client that lost its connection names the last event that it got, in
`Last-Event-ID`, and hears what came after; browsers do so by themselves.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import msgspec
from starlette.responses import Response, StreamingResponse

import eventbraid as eb

from ..order_fulfilment.orders import OrderEvent, OrderState, OrderStatus, order_after
from ..order_fulfilment.values import OrderId
from .intake import last_event_id
from .story import Story, no_such_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.types import Send

    from .serving import Serving
    from .story import Change

_STILL_HERE = b": still here\n\n"
_COME_AGAIN = b"retry: 1000\n\n"


async def show_order(request: Request[Serving]) -> Response:
    """Return the status of an order: 200, or 404."""
    order = _order(request)
    state = OrderState()
    async for recorded in request.state["store"].read_stream(order):
        state = order_after(state, cast("OrderEvent", eb.decode_event(recorded)))
    if state.status is OrderStatus.UNKNOWN:
        raise no_such_order(str(order))
    shown = {
        "order": str(order),
        "status": state.status.value,
        "total": int(state.total),
        "events": f"/orders/{order}/events",
    }
    return Response(msgspec.json.encode(shown), media_type="application/json")


async def follow_order(request: Request[Serving]) -> Response:
    """Stream what happens to an order: 200 and a stream, or 404.

    204 tells a client that knows the end already, so that it does not come again.
    """
    after = last_event_id(request.headers)
    story = Story(request.state["store"], _order(request), after)
    changes = await story.begin()
    if story.ended and not changes:
        return Response(status_code=204)
    request.state["doorbell"].require_open()
    return EventStream(
        _told(story, changes, request.state), headers={"Cache-Control": "no-store"}
    )


class EventStream(StreamingResponse):
    """Server-sent events, whose source is closed as soon as the client is gone."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        """Send events until there are no more, or nobody is there."""
        source = cast("AsyncGenerator[bytes]", self.body_iterator)
        async with aclosing(source):
            await super().stream_response(send)


async def _told(
    story: Story, changes: list[Change], serving: Serving
) -> AsyncGenerator[bytes]:
    with serving["doorbell"].listening(*story.streams) as ring:
        yield _COME_AGAIN
        while True:
            for change in changes:
                yield change.as_event()
            if story.ended or ring.ended:
                return
            ring.arm()
            changes = await story.read_on()
            if not changes:
                while not await ring.rung_within(serving["heartbeat"]):
                    yield _STILL_HERE


def _order(request: Request[Serving]) -> OrderId:
    given = cast("str", request.path_params["order"])
    try:
        return OrderId(given)
    except eb.InvalidValue:
        raise no_such_order(given) from None
