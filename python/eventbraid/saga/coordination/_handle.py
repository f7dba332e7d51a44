"""The handle of a saga: its id, its status, and its result."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from eventbraid.errors import CoordinatorClosed
from eventbraid.saga.running._worker import waiting_for_saga
from eventbraid.store._duration import duration_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbraid.saga.machine._progress import SagaStatus
    from eventbraid.saga.running._outcome import SagaResult
    from eventbraid.saga.running._run import Run

S = TypeVar("S")


class SagaHandle(Generic[S]):
    """A saga that was started; `SagaCoordinator.start` and `get` return it.

    Example:
        >>> import eventbraid as eb
        >>> eb.SagaHandle.__name__
        'SagaHandle'
    """

    __slots__ = ("_catch_up", "_run")

    def __init__(
        self, run: Run[S], catch_up: Callable[[Run[S]], Awaitable[None]]
    ) -> None:
        """Build a handle; use `SagaCoordinator.start` instead."""
        self._run = run
        self._catch_up = catch_up

    @property
    def id(self) -> str:
        """The saga's id, which is also the name of its stream."""
        return self._run.id

    @property
    def status(self) -> SagaStatus:
        """The status of the saga, as of the last record that this coordinator has read.

        If another coordinator drives the saga, the status may be outdated until the
        saga is at rest.
        """
        return self._run.progress.status

    @property
    def state(self) -> S:
        """The saga's state, folded from the results so far; a copy for the caller."""
        return self._run.state.data.read()

    async def result(self, *, timeout: timedelta | None = None) -> SagaResult[S]:
        """Wait until the saga is at rest: it has ended, or it is stuck.

        A saga has ended if it is completed or compensated. A stuck saga has not ended:
        it waits for a person's decision. After that decision, this method can wait for
        the saga again.

        If a step of another saga calls this method, that other saga doesn't count for
        ``concurrency`` during the wait.

        Args:
            timeout: The maximum duration of the wait; without limit if not given. The
                saga isn't affected.

        Returns:
            The outcome of the saga, with its state.

        Raises:
            TimeoutError: The saga wasn't at rest within the timeout.
            SagaBlocked: The program that has the saga's shard can't drive the saga;
                this may be the caller's program or another one. A second call raises at
                once while nothing has changed. It waits again if a program that can
                drive the saga has continued it, or has its shard now.
            CoordinatorClosed: The coordinator was left before the saga was at rest.
        """
        seconds = None
        if timeout is not None:
            # A caller's deadline may have passed already.
            seconds = duration_seconds("timeout", timeout, minimum=timedelta.min)
        with anyio.fail_after(seconds):
            if self._run.error is not None:
                # No notice is appended when a blocked saga continues, so read its
                # stream.
                await self._catch_up(self._run)
            if self._run.at_rest.is_set():
                await checkpoint()
            else:
                async with waiting_for_saga():
                    await self._run.at_rest.wait()
            if not self._run.at_rest.is_set():
                raise CoordinatorClosed(
                    "the coordinator of this step is being left; the step's next "
                    "attempt waits again"
                )
        if self._run.error is not None:
            raise self._run.error
        return self._run.result()

    def __repr__(self) -> str:
        """Return the saga's id and status."""
        return f"<SagaHandle {self.id!r}, {self.status.value}>"
