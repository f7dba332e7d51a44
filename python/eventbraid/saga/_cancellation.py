"""Distinguishes the end of a coordinator from a cancellation by other code.

On asyncio any code may cancel its own task, or any other task that it has a reference
to. If a `CancelledError` leaves a task of a task group, the task group handles it as a
cancellation of the group. So a stray `CancelledError` would end the coordinator without
an error.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio

from eventbraid._logging import SAGA

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Any


class Host:
    """The task that entered the coordinator, and whether that task is cancelled."""

    __slots__ = ("_requests", "_task")

    def __init__(self) -> None:
        """Begin without a task."""
        self._task: asyncio.Task[Any] | None = None
        self._requests = 0

    def enter(self) -> None:
        """Make the current task the host."""
        self._task = current_task()
        self._requests = cancellation_requests()

    @property
    def is_cancelled(self) -> bool:
        """Whether the current task is cancelled because its coordinator ends.

        This is so in two cases: a cancel scope around the task is cancelled, or the
        event loop is shut down and `asyncio.run` cancels all tasks, the host included.
        """
        if anyio.current_effective_deadline() == -math.inf:
            return True
        host = self._task
        return host is not None and (host.done() or host.cancelling() > self._requests)


@asynccontextmanager
async def dropped_stray_cancellation(host: Host) -> AsyncGenerator[None]:
    """Continue after the block if other code of the program cancels a wait in it.

    Args:
        host: The host of the coordinator to which the current task belongs.
    """
    try:
        yield
    except anyio.get_cancelled_exc_class():
        if host.is_cancelled:
            raise
        SAGA.warning("a task of a coordinator was cancelled; it continues")
        await drop_cancellation_requests(0)


def is_being_cancelled() -> bool:
    """Return whether the cancellation of the current task was requested.

    If it wasn't, a `CancelledError` has another cause. For example, ``future.result()``
    raises one if the future was cancelled.
    """
    if anyio.current_effective_deadline() == -math.inf:
        return True
    return cancellation_requests() > 0


def ends_task(error: BaseException) -> bool:
    """Return whether an exception is the requested cancellation of the current task."""
    if not is_in_a_task():
        return False
    return isinstance(error, anyio.get_cancelled_exc_class()) and is_being_cancelled()


def is_in_a_task() -> bool:
    """Return whether a task of a running event loop executes this code."""
    try:
        anyio.get_current_task()
    except Exception:  # noqa: BLE001 - without a loop each backend raises its own error
        return False
    return True


def cancellation_requests() -> int:
    """Return the number of requests to cancel the current task; 0 on trio."""
    task = current_task()
    return 0 if task is None else task.cancelling()


async def drop_cancellation_requests(down_to: int) -> None:
    """Withdraw requests to cancel the current task until only a number of them is left.

    Cancellation by a cancel scope isn't lost, because the scope repeats its request.
    """
    task = current_task()
    if task is None or task.cancelling() <= down_to:
        return
    with suppress(asyncio.CancelledError):
        # A pending request raises its error at the next `await`. Let it do so here,
        # where the error is suppressed.
        await asyncio.sleep(0)
    while task.cancelling() > down_to:
        task.uncancel()


def current_task() -> asyncio.Task[Any] | None:
    """Return the current task of asyncio; None on trio."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None  # The event loop is trio's.
