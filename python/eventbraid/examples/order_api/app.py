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

import eventbraid as eb

from .ending import call_before_shutdown
from .following import follow_order, show_order
from .placing import place_order
from .problems import HANDLERS
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
    async def lifespan(_: Starlette) -> AsyncGenerator[Serving]:
        async with (
            eb.open_async(location) as store,
            anyio.create_task_group() as tasks,
        ):
            wakeups = StreamWakeups(store, TYPES, tasks)
            with call_before_shutdown(wakeups.close):
                yield Serving(
                    store=store,
                    executor=eb.AsyncExecutor(store),
                    wakeups=wakeups,
                    heartbeat=heartbeat,
                    body_timeout=body_timeout,
                )
            wakeups.close()

    return Starlette(
        routes=[
            Route("/orders", place_order, methods=["POST"]),
            Route("/orders/{order}", show_order),
            Route("/orders/{order}/events", follow_order),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )


def from_environment() -> Starlette:
    """Build the application on the store that the environment names.

    Raises:
        KeyError: The environment names no store.
    """
    body_timeout = float(os.environ.get(BODY_TIMEOUT_VARIABLE, BODY_TIMEOUT))
    return order_api(os.environ[STORE_VARIABLE], body_timeout=body_timeout)
