"""The application: its routes, and the store that each worker process opens.

    export ORDER_API_STORE=shop.braid
    uvicorn --factory eventbraid.examples.order_api.app:from_environment --workers 4

is what `python -m eventbraid.examples.order_api shop.braid --workers 4` does. That also
limits the number of connections, and the time within which a connection must send the
headers of a request.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from starlette.applications import Starlette
from starlette.routing import Route

from eventbraid import web

from .ending import call_before_shutdown
from .following import follow_order, show_order
from .placing import place_order
from .serving import Serving
from .story import TYPES
from .wakeups import StreamWakeups

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

STORE_VARIABLE = "ORDER_API_STORE"
BODY_TIMEOUT_VARIABLE = "ORDER_API_BODY_TIMEOUT"

BODY_TIMEOUT = 10.0
"""Seconds within which a request's body must arrive."""

# An order that is refused for what it contains, whatever was ordered before.
_REJECTIONS = {"malformed_order": 422}

# Proxies close idle connections, and a client that has silently disappeared is noticed
# only when something is sent to it.
_HEARTBEAT = 15.0


def order_api(
    location: str | Path,
    *,
    heartbeat: float = _HEARTBEAT,
    body_timeout: float = BODY_TIMEOUT,
) -> Starlette:
    """Build the application.

    Args:
        location: The store, which is opened when the application starts.
        heartbeat: The maximum interval in seconds between two messages of a live
            stream; a comment is sent if there is no event.
        body_timeout: Seconds within which a request's body must arrive; a slower one is
            answered with 408.

    Example:
        >>> [route.path for route in order_api("memory:").routes]
        ['/orders', '/orders/{order}', '/orders/{order}/events']
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[Serving]:
        async with (
            web.lifespan(location)(app) as state,
            anyio.create_task_group() as tasks,
        ):
            wakeups = StreamWakeups(state["store"], TYPES, tasks)
            with call_before_shutdown(wakeups.close):
                yield {
                    **state,
                    "wakeups": wakeups,
                    "heartbeat": heartbeat,
                    "body_timeout": body_timeout,
                }
            wakeups.close()

    return Starlette(
        routes=[
            Route("/orders", place_order, methods=["POST"]),
            Route("/orders/{order}", show_order),
            Route("/orders/{order}/events", follow_order),
        ],
        exception_handlers=web.problem_handlers(rejections=_REJECTIONS),
        lifespan=lifespan,
    )


def from_environment() -> Starlette:
    """Build the application on the store that the environment names.

    Raises:
        KeyError: The environment names no store.
    """
    body_timeout = float(os.environ.get(BODY_TIMEOUT_VARIABLE, BODY_TIMEOUT))
    return order_api(os.environ[STORE_VARIABLE], body_timeout=body_timeout)
