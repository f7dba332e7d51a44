"""The state of a worker process, shared by its requests."""

from __future__ import annotations

from typing import TypedDict

import eventbraid as eb

from .wakeups import StreamWakeups


class Serving(TypedDict):
    """The state of a worker, available to each request.

    Attributes:
        store: The open store, shared with the other processes.
        executor: Executes commands on it.
        wakeups: Wakes the readers of live streams.
        heartbeat: The maximum interval in seconds between two messages of a live
            stream.
        body_timeout: Seconds within which a request's body must arrive.
    """

    store: eb.AsyncEventStore
    executor: eb.AsyncExecutor
    wakeups: StreamWakeups
    heartbeat: float
    body_timeout: float
