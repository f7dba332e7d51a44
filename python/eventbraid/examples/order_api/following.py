"""`GET /orders/...`: the status of an order, once or live.

The live stream consists of server-sent events: first the past changes, then the new
ones, until the last. A client that has lost its connection sends the id of the last
event that it received in `Last-Event-ID`, and receives the later events; browsers do so
by themselves.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import msgspec
from starlette.responses import Response, StreamingResponse

import eventbraid as eb

from ..order_fulfilment.orders import Order, OrderStatus
from ..order_fulfilment.values import OrderId
from .intake import last_event_id
from .story import Story, no_such_order

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.types import Send

    from .serving import Serving
    from .story import Change

_HEARTBEAT = b": still here\n\n"
_RECONNECT = b"retry: 1000\n\n"


async def show_order(request: Request[Serving]) -> Response:
    """Return the status of an order: 200, or 404."""
    order = _order(request)
    state = (await request.state["executor"].load(Order(order))).state
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
    """Stream the changes of an order: 200 and a stream, or 404.

    A client that has received the last event gets 204, so it does not reconnect.
    """
    after = last_event_id(request.headers)
    story = Story(request.state["store"], _order(request), after)
    changes = await story.begin()
    if story.ended and not changes:
        return Response(status_code=204)
    request.state["wakeups"].require_open()
    return EventStream(
        _events(story, changes, request.state), headers={"Cache-Control": "no-store"}
    )


class EventStream(StreamingResponse):
    """Server-sent events; their source is closed when the client has disconnected."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        """Send events until the source ends or the client disconnects."""
        source = cast("AsyncGenerator[bytes]", self.body_iterator)
        async with aclosing(source):
            await super().stream_response(send)


async def _events(
    story: Story, changes: list[Change], serving: Serving
) -> AsyncGenerator[bytes]:
    with serving["wakeups"].listening(*story.streams) as wakeup:
        yield _RECONNECT
        while True:
            for change in changes:
                yield change.as_event()
            if story.ended or wakeup.is_last:
                return
            # Reset before the read: a change after the read is then notified.
            wakeup.reset()
            changes = await story.read_on()
            if not changes:
                while not await wakeup.wait(serving["heartbeat"]):
                    yield _HEARTBEAT


def _order(request: Request[Serving]) -> OrderId:
    given = cast("str", request.path_params["order"])
    try:
        return OrderId(given)
    except eb.InvalidValue:
        raise no_such_order(given) from None
