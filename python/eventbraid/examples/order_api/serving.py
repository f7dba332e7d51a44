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
    """

    store: eb.AsyncEventStore
    executor: eb.AsyncExecutor
    doorbell: Doorbell
