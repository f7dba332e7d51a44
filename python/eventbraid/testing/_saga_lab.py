"""Runs a saga in a test: on virtual time, with faults, and with ends of its process."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import anyio

import eventbraid as eb
from eventbraid.saga import read_timeline
from eventbraid.saga._exception_groups import exceptions_in
from eventbraid.saga.machine._next_action import Terminal
from eventbraid.saga.machine._outcomes import CancelRequest, SignalRequest, Start
from eventbraid.saga.machine._progress import Progress
from eventbraid.saga.machine._state import SagaState
from eventbraid.saga.running._clock import Clock, SagaClock
from eventbraid.saga.running._driver import Driver, Pause
from eventbraid.saga.running._journal import Journal
from eventbraid.saga.running._permits import Permits
from eventbraid.saga.running._records import head_of_new_saga
from eventbraid.saga.running._run import Run
from eventbraid.testing._clock import START
from eventbraid.testing._saga_faults import (
    MortalStore,
    ProcessEnd,
    SagaFaults,
    with_faults,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from eventbraid.saga import Saga, SagaResult, SagaTimeline, Signal
    from eventbraid.saga.machine._outcomes import Request

S = TypeVar("S")
P = TypeVar("P")

_FOREVER = float("inf")
_MAXIMUM_ACTIONS = 100_000


class _VirtualClock(Clock):
    """A clock whose time passes only when the lab lets it pass.

    Attributes:
        seconds: The seconds since the start.
        limit: The seconds at which the time stops.
    """

    __slots__ = ("limit", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.limit = _FOREVER
        start = START.timestamp()
        super().__init__(lambda: start + self.seconds, lambda: self.seconds)

    async def wait(self, event: anyio.Event, seconds: float | None) -> None:
        """Let the time pass if no task can continue before the event."""
        await anyio.wait_all_tasks_blocked()
        if event.is_set():
            return
        if seconds is None:
            await event.wait()
        else:
            self.seconds = min(self.seconds + max(seconds, 0.0), self.limit)


class SagaLab(Generic[S]):
    """Runs one saga in a test, without a coordinator and without real waits.

    Time is virtual: it passes only when nothing else can happen, so a day takes
    microseconds. The store is in memory and outlives the simulated process. After the
    end of the process, the next method starts another one, which reads the saga from
    the store as a coordinator would.

    Use it as a context manager. Steps of the saga must not wait for real time, and must
    not use a coordinator.

    Args:
        saga: The saga. Its steps are called as they are, apart from the faults.

    Attributes:
        store: The store, for commands and reads of the test.
        ends: The number of processes that have ended before the saga.

    Example:
        >>> import anyio
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> from eventbraid.testing import SagaLab
        >>> confirmed = eb.saga.Signal("confirmed", str)
        >>> saga = eb.Saga(
        ...     "order",
        ...     str,
        ...     steps=[
        ...         eb.saga.wait(
        ...             confirmed,
        ...             timeout=timedelta(days=1),
        ...             then=lambda state, by: f"{state} confirmed by {by}",
        ...         )
        ...     ],
        ... )
        >>> async def test_a_confirmed_order() -> None:
        ...     with SagaLab(saga) as lab:
        ...         await lab.start("order")
        ...         await lab.run_until("wait for confirmed")
        ...         await lab.advance(hours=23)
        ...         await lab.signal(confirmed, "ann")
        ...         result = await lab.run()
        ...         print(result.outcome.value, result.state)
        >>> anyio.run(test_a_confirmed_order)
        completed order confirmed by ann
    """

    def __init__(self, saga: Saga[S], /) -> None:
        """Open a store in memory; nothing runs before `start`."""
        self._faults = SagaFaults()
        self._saga = with_faults(saga, self._faults)
        self._clock = _VirtualClock()
        self._run: Run[S] | None = None
        self._resumed = False
        self._id = ""
        self.ends = 0
        self.store = eb.open("memory:")
        self._shared = self.store.as_async()
        self._driver, self._journal = self._process()

    def __enter__(self) -> SagaLab[S]:
        """Return the lab."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.store.close()

    # --- faults ----------------------------------------------------------------------

    def fail(self, step: str, *, times: int = 1) -> None:
        """Let the next attempts of a step fail before they have an effect.

        An external step fails with an error of the connection, so its outcome is in
        doubt as after a real one; the command of a local step is rejected.

        Args:
            step: The step's name; for a compensation ``"compensate <step>"``, for the
                step of an item ``"<step>[<key>]"``.
            times: The number of attempts.
        """
        self._faults.failures[step] += times

    def lose_answer(self, step: str, *, times: int = 1) -> None:
        """Let the next calls of an external step have their effect, but no answer.

        Args:
            step: As for `fail`.
            times: The number of calls.
        """
        self._faults.lost[step] += times

    def crash_after(self, step: str, record: str) -> None:
        """End the process after the next record of a step, before anything else.

        Args:
            step: The step's name.
            record: What is recorded, as in the type of the record: ``"started"``,
                ``"succeeded"``, ``"failed"``, ``"unknown"``, or the whole type without
                ``saga.``, such as ``"compensation_attempted"``.
        """
        whole = {"started", "succeeded", "failed", "unknown", "skipped", "compensated"}
        kind = f"step_{record}" if record in whole else record
        self._faults.deaths.add((step, kind))

    # --- the saga --------------------------------------------------------------------

    async def start(self, state: S, /, *, id: str = "saga-1") -> None:  # noqa: A002 - as in the coordinator
        """Start the saga; only its first records are made.

        Args:
            state: The initial state.
            id: The saga's id.
        """
        self._id = id
        while not self.store.version(id):
            self._run = self._new_run(state)
            deadline = self._saga.deadline
            now = self._run.clock.now()
            begin = Start(None if deadline is None else now + deadline)
            await self._survive(self._decide(self._run, begin))
        self._resumed = False

    async def run(self) -> SagaResult[S]:
        """Run until the saga has ended or is stuck; let any time pass.

        Returns:
            The result.

        Raises:
            SagaBlocked: The saga has a defect.
            AssertionError: The saga waits for a signal without a timeout.
        """
        await self._drive(lambda: False, _FOREVER)
        run = await self._loaded()
        if not run.progress.status.is_at_rest:
            raise AssertionError(
                f"the saga waits for a signal at {self._waits()}; send it first"
            )
        return run.result()

    async def run_until(self, step: str) -> None:
        """Run until the saga waits at a step; let the time of other waits pass.

        Args:
            step: The name of a step that is declared by `wait` or `sleep`.

        Raises:
            AssertionError: The saga doesn't reach the wait.
        """
        await self._drive(lambda: step in self._waits(), _FOREVER)
        if step not in self._waits():
            run = await self._loaded()
            raise AssertionError(
                f"the saga is {run.progress.status.value} and doesn't wait at "
                f"{step!r}; it waits at {self._waits()}"
            )

    async def advance(
        self, *, days: float = 0, hours: float = 0, seconds: float = 0
    ) -> None:
        """Let time pass, and run what is due meanwhile.

        Args:
            days: The number of days.
            hours: The number of hours, in addition.
            seconds: The number of seconds, in addition.
        """
        by = timedelta(days=days, hours=hours, seconds=seconds).total_seconds()
        until = self._clock.seconds + by
        await self._drive(lambda: False, until)
        self._clock.seconds = max(self._clock.seconds, until)
        await self._drive(lambda: False, self._clock.seconds)

    @overload
    async def signal(self, signal: Signal[None], /) -> None: ...
    @overload
    async def signal(self, signal: Signal[P], payload: P, /) -> None: ...
    async def signal(self, signal: Signal[Any], payload: Any = None, /) -> None:
        """Send a signal, as another program would do; the saga doesn't run yet.

        Args:
            signal: The signal.
            payload: Its payload.
        """
        encoded = signal.codec.encode(payload)
        await self._request(SignalRequest(signal.name, encoded))

    async def cancel(self, *, reason: str = "cancelled by the test") -> None:
        """Request the compensation of the saga; the saga doesn't run yet."""
        await self._request(CancelRequest(reason))

    @property
    def time(self) -> datetime:
        """The virtual time."""
        return SagaClock(self._clock, is_new=True).now()

    @property
    def timeline(self) -> SagaTimeline:
        """What is recorded about the saga."""
        return read_timeline(self.store, self._id)

    @staticmethod
    async def every_crash_point(
        make: Callable[[], Saga[S]],
        state: S,
        check: Callable[[SagaLab[S], SagaResult[S]], object],
        *,
        play: Callable[[SagaLab[S]], Awaitable[SagaResult[S]]] | None = None,
    ) -> int:
        """Run a saga again and again, and end its process at another moment each time.

        The moments are those before and after each append, and before and after each
        call, forward and compensating. After the end, another process continues.

        Args:
            make: Returns the saga, with services that no other run has used.
            state: The initial state.
            check: Is called after each run, and raises if something is wrong.
            play: Runs the saga after its start, for example with signals in between; by
                default `run`.

        Returns:
            The number of moments.
        """
        count = number = 0
        while number <= count:
            with SagaLab(make()) as lab:
                lab._faults.dies_at = number
                await lab.start(state)
                result = await (lab.run() if play is None else play(lab))
                check(lab, result)
                if not number:
                    count = lab._faults.points
            number += 1
        return count

    # --- the simulated process -------------------------------------------------------

    def _process(self) -> tuple[Driver, Journal]:
        mortal: Any = MortalStore(self._shared, self._faults)
        journal = Journal(mortal, eb.AsyncExecutor(mortal), None, self._clock)

        async def pause(seconds: float) -> bool:
            self._clock.seconds += seconds
            return False

        return Driver(journal, pause), journal

    def _new_run(self, state: S) -> Run[S]:
        nothing = SagaState(Progress(self._id), self._saga.state_codec.record(state))
        clock = SagaClock(self._clock, is_new=True)
        return Run(self._saga, nothing, head_of_new_saga(self._id, None), clock)

    async def _loaded(self) -> Run[S]:
        if self._run is None:
            reader = self._journal.reader
            recorded = await reader.read(self._id)
            self._run = await reader.restore(self._saga, self._id, recorded)
            self._run.take_over()
        return self._run

    async def _decide(self, run: Run[S], request: Request) -> None:
        await self._journal.commit(run, *run.decide(request))

    async def _request(self, request: Request) -> None:
        run = await self._loaded()
        clean = Journal(self._shared, eb.AsyncExecutor(self._shared), None, self._clock)
        await clean.commit(run, *run.decide(request))

    async def _survive(self, work: Awaitable[Any]) -> Any:
        """Await something; if the process ends meanwhile, begin another process."""
        try:
            return await work
        except BaseException as error:
            if not _is_process_end(error):
                raise
        self.ends += 1
        self._faults.begin_process()
        self._run, self._resumed = None, True
        self._driver, self._journal = self._process()
        return None

    async def _drive(self, stop: Callable[[], bool], until: float) -> None:
        """Take actions until the saga is at rest, waits for a signal, or must stop."""
        self._clock.limit = until
        for _ in range(_MAXIMUM_ACTIONS):
            end = await self._survive(self._drive_once())
            if end is None:
                continue
            if isinstance(end, Terminal) or stop():
                return
            if self._is_endless():
                return
            due = self._clock.seconds + max(end.seconds, 0.0)
            if due > until:
                return
            self._clock.seconds = due
        raise AssertionError(f"the saga doesn't come to rest: {self.timeline}")

    async def _drive_once(self) -> Pause | Terminal | None:
        run = await self._loaded()
        resumed, self._resumed = self._resumed, False
        with Permits(1).permit() as permit:
            return await self._driver.drive(run, permit, resumed=resumed)

    def _waits(self) -> tuple[str, ...]:
        if self._run is None:
            return ()
        active = self._run.progress.active
        return tuple(shape.name for shape, one in active if one.waiting is not None)

    def _is_endless(self) -> bool:
        if self._run is None:
            return False
        active = self._run.progress.active
        return all(
            branch.waiting is not None and branch.waiting.until is None
            for _, branch in active
        )


def _is_process_end(error: BaseException) -> bool:
    return any(isinstance(one, ProcessEnd) for one in exceptions_in(error))
