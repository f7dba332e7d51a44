"""The state of a worker process, shared by its requests."""

from __future__ import annotations

import eventbraid as eb
from eventbraid.web import WebState

from .wakeups import StreamWakeups


class Serving(WebState[eb.AsyncEventStore]):
    """The state of a worker, available to each request.

    Attributes:
        wakeups: Wakes the readers of live streams.
        heartbeat: The maximum interval in seconds between two messages of a live
            stream.
        body_timeout: Seconds within which a request's body must arrive.
    """

    wakeups: StreamWakeups
    heartbeat: float
    body_timeout: float
