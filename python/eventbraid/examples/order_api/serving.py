"""What a worker process holds while it serves."""

from __future__ import annotations

from typing import TypedDict

import eventbraid as eb

from .doorbell import Doorbell


class Serving(TypedDict):
    """The state of a worker, which each request sees.

    Attributes:
        store: The open store, shared with the other processes.
        executor: Executes commands on it.
        doorbell: Wakes those who follow an order.
        heartbeat: After how many seconds without news a live stream shows that it is
            still there.
        body_timeout: Seconds within which a request's body must arrive.
    """

    store: eb.AsyncEventStore
    executor: eb.AsyncExecutor
    doorbell: Doorbell
    heartbeat: float
    body_timeout: float
