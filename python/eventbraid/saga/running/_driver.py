"""Drives one saga: the move that the plan says, again and again, until it rests."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import structs

from eventbraid._logging import SAGA
from eventbraid.errors import (
    EventbraidError,
    LimitExceeded,
    OutcomeUnknown,
    RetriesExhausted,
    VersionConflict,
)
from eventbraid.saga._cancellation import Host, drop_cancellation_requests
from eventbraid.saga.machine._consequences import defect_record, interrupted
from eventbraid.saga.machine._defect import Defect, Outage, log_outage
from eventbraid.saga.machine._events import (
    NOTHING,
    CompensationAttempted,
    StepStarted,
    StepUnknown,
)
from eventbraid.saga.machine._next_action import (
    Action,
    Blocked,
    Call,
    Commit,
    Compensate,
    Execute,
    Record,
    Terminal,
    Wait,
    is_overdue,
    next_action,
)
from eventbraid.saga.machine._progress import Progress, Status
from eventbraid.saga.running._calls import Calls
from eventbraid.saga.running._compensation_execution import StepCompensation
from eventbraid.saga.running._error_classes import (
    MAXIMUM_OUTAGES,
    breather,
    pause_after,
    pause_while_blocked,
)
from eventbraid.saga.running._external_execution import StepExecution
from eventbraid.saga.running._journal import blocked_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._permits import Permits
    from eventbraid.saga.running._run import Run


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait of a saga before it is driven on.

    Attributes:
        seconds: How long it is.
        resumed: Whether an attempt that is under way was made by a process that has
            ended.
    """

    seconds: float
    resumed: bool = False


# For the last record of a call when its coordinator is ended.
_SECONDS_TO_RECORD = 1.0


class Driver:
    """Drives sagas, one call of `drive` each, until they rest or have to wait."""

    __slots__ = (
        "_compensation",
        "_draw",
        "_execution",
        "_journal",
        "_permits",
        "calls",
        "host",
        "stopping",
    )

    def __init__(
        self,
        journal: Journal,
        permits: Permits,
        pause: Callable[[float], Awaitable[bool]],
    ) -> None:
        """Drive by a journal.

        Args:
            journal: Reads and writes the sagas' streams.
            permits: Bounds the number of sagas that are worked on at a time.
            pause: Waits for seconds, and returns whether the coordinator is left.
        """
        self._journal = journal
        self._permits = permits
        self._draw = random.Random().random
        self.host = Host()
        self.calls = Calls()
        self._execution = StepExecution(journal, self.host, self._draw, pause)
        self._compensation = StepCompensation(journal, self.host, self._draw)
        self.stopping = False

    async def drive(self, run: Run[Any], *, resumed: bool) -> Pause | Terminal | None:
        """Make the saga's moves, one after the other, until it rests or has to wait.

        Args:
            run: The saga.
            resumed: Whether an attempt that is under way was made by a process that
                has ended.

        Returns:
            After which pause it is to be driven on, or that it rests; None if it
            mustn't be driven on here.

        Raises:
            SagaBlocked: This program can't fold the saga's results, or the saga is
                blocked by a defect.
            LeaseLost: The saga's shard is another coordinator's.
            EventbraidError: The store is out of order.
        """
        while not (self.stopping or _is_given_back(run)):
            try:
                if not run.holds_permit:
                    await self._acquire_permit(run)
                    continue
                end = await self._make_next(run, resumed=resumed)
                run.outages = run.outages_blocked = 0
                if end is not None:
                    return end
                resumed = False
            except VersionConflict:
                # Somebody else wrote to the stream: nothing of ours was recorded.
                run.stale = True
            except (OutcomeUnknown, RetriesExhausted):
                await anyio.sleep(breather(self._draw()))
                run.stale = True
            except Outage as outage:
                run.stale = True
                log_outage(run.id, outage)
                seconds = pause_after(run.outages, self._draw())
                return Pause(seconds, resumed=resumed)
            except anyio.get_cancelled_exc_class():
                if self.host.is_cancelled:
                    raise
                # Something in this program cancelled the task of this saga.
                SAGA.warning("the task of saga %r was cancelled; it goes on", run.id)
                await drop_cancellation_requests(0)
                run.stale = True
                # The cause may cancel it at each move, so each move follows a pause.
                run.outages += 1
                seconds = pause_after(run.outages, self._draw())
                return Pause(seconds, resumed=resumed)
        return None

    async def _make_next(
        self, run: Run[Any], *, resumed: bool
    ) -> Pause | Terminal | None:
        """Make one move; return None if the next one may follow."""
        if run.stale:
            await self._journal.reload(run)
        if not run.clock.is_confirmed and (seconds := _seconds_to_confirm(run)):
            return Pause(seconds, resumed=resumed)
        _bound_deadline(run)
        try:
            if resumed and await self._record_interruption(run):
                return None
            move = next_action(
                run.saga,
                run.progress,
                run.state,
                run.clock.now(),
                run.defective,
            )
            if run.is_taken_over:
                move = _watched(run, move)
            await self._make(run, move)
        except (Defect, Outage) as trouble:
            await self._block(run, _lasting(run, trouble))
            return None
        if isinstance(move, Wait):
            return Pause(_seconds_until(run, move.until))
        if not isinstance(move, Terminal):
            return None
        if move.status is Status.STUCK:
            SAGA.error("saga %r is stuck: %s", run.id, run.progress.stuck_for)
        return move

    async def _record_interruption(self, run: Run[Any]) -> bool:
        """Record what has ended with its process; return whether anything has."""
        events = interrupted(
            run.saga, run.progress, run.clock.now(), chance=self._draw()
        )
        if events:
            await self._journal.commit(run, events, run.state)
        return bool(events)

    async def _make(self, run: Run[Any], move: Action) -> None:
        match move:
            case Commit(events):
                await self._journal.commit(run, events, run.state)
            case Wait() | Terminal():
                return
            case Blocked():
                defect = next(iter(run.defective.values()))
                if any(one.is_outage for one in run.defective.values()):
                    run.outages_blocked += 1
                raise blocked_error(run.progress, defect.reason) from defect.error
            case (
                Call(alone=True, start=start)
                | Execute(alone=True, start=start)
                | Compensate(alone=True, start=start)
            ):
                async with self.calls.alone(run.id) as is_alone:
                    if run.stale or self.stopping or _is_given_back(run):
                        return
                    if start is not None:
                        start = structs.replace(start, alone=is_alone)
                        await self._journal.commit(run, (start,), run.state)
                    await self._attempt_alone(run, move)
            case _:
                await self.calls.begin(run.id)
                try:
                    await self._attempt(run, move)
                finally:
                    self.calls.end(run.id)

    def _attempt(
        self, run: Run[Any], move: Call | Record | Execute | Compensate
    ) -> Awaitable[None]:
        # Not a coroutine of its own: each one around a call costs time at each wait.
        match move:
            case Execute(node, attempt):
                return self._execution.execute(run, node, attempt)
            case Call(node, attempt):
                return self._execution.call(run, node, attempt)
            case Record(node, attempt):
                return self._execution.record(run, node, attempt)
            case Compensate(node, attempt):
                return self._compensation.compensate(run, node, attempt)

    async def _attempt_alone(
        self, run: Run[Any], move: Call | Execute | Compensate
    ) -> None:
        """Make an attempt that counts if the process ends during it.

        If the coordinator is ended instead, that is recorded: the call isn't the cause.
        """
        try:
            await self._attempt(run, move)
        except anyio.get_cancelled_exc_class():
            if self.host.is_cancelled and isinstance(move, Call):
                with anyio.move_on_after(_SECONDS_TO_RECORD, shield=True):
                    await self._record_cancellation(run, move)
            raise

    async def record_wait(self, run: Run[Any]) -> None:
        """Record that a call which is made alone waits for another saga.

        If the process ends meanwhile, a call of that saga may be the cause.
        """
        record = _no_longer_alone(run.progress)
        if record is None:
            return
        try:
            with anyio.CancelScope(shield=True):
                await self._journal.commit(run, (record,), run.state)
        except (VersionConflict, OutcomeUnknown):
            # The attempt stays charged, at worst; its end is recorded after a reload.
            run.stale = True

    async def _record_cancellation(self, run: Run[Any], call: Call) -> None:
        record = StepUnknown(
            call.step.name,
            "crash",
            "CancelledError",
            "the coordinator was ended during the call",
            call.attempt,
            run.clock.now(),
            cancelled=True,
        )
        try:
            await self._journal.commit(run, (record,), run.state)
        except EventbraidError as error:
            SAGA.warning(
                "the end of a call of saga %r isn't recorded: %s", run.id, error
            )

    async def _block(self, run: Run[Any], defect: Defect) -> None:
        """Record a defect, and block the saga unless other compensations are left.

        Raises:
            SagaBlocked: The saga is blocked.
            VersionConflict: Another writer appended to the saga's stream.
        """
        record = defect_record(run.progress, defect)
        if record is not None:
            try:
                await self._journal.commit(run, (record,), run.state)
            except LimitExceeded:
                # The answer is too large: the receiver is called again after the fix.
                record = structs.replace(record, answer=NOTHING, answered=False)
                await self._journal.commit(run, (record,), run.state)
        if run.progress.compensating:
            # The plan says whether another step may be compensated meanwhile.
            run.defective[defect.step] = defect
            return
        run.outages_blocked = run.outages_blocked + 1 if defect.is_outage else 0
        raise blocked_error(run.progress, defect.reason) from defect.error

    def seconds_until_tried_again(self, run: Run[Any]) -> float:
        """Return after which pause a saga that an outage blocks is tried again."""
        return pause_while_blocked(run.outages_blocked, self._draw())

    async def _acquire_permit(self, run: Run[Any]) -> None:
        await self._permits.acquire()
        run.holds_permit = True


def _seconds_to_confirm(run: Run[Any]) -> float:
    """Return how long a confirmed time is to be waited for.

    If the saga's deadline seems to have passed, it may be that this process has started
    while the wall clock was wrong; then it would compensate the saga.
    """
    progress = run.progress
    if progress.deadline is None or progress.status is not Status.RUNNING:
        return 0.0
    seconds = run.clock.seconds_to_confirm()
    if not seconds or not is_overdue(run.saga, progress, run.clock.now()):
        return 0.0
    return seconds


def _bound_deadline(run: Run[Any]) -> None:
    """Bound a deadline that lies further ahead than the saga's declaration allows."""
    deadline, longest = run.progress.deadline, run.saga.deadline
    if deadline is None or longest is None:
        return
    if not run.clock.is_confirmed:
        run.clock.now()
    bounded = run.clock.bounded(deadline, longest)
    if bounded != deadline:
        run.progress = structs.replace(run.progress, deadline=bounded)


def _seconds_until(run: Run[Any], until: datetime) -> float:
    """Return how long to wait for a time, or for the clock to be confirmed before."""
    is_confirmed = run.clock.is_confirmed
    seconds = (until - run.clock.now()).total_seconds()
    if is_confirmed or run.progress.deadline is None:
        return seconds
    return min(seconds, run.clock.seconds_to_confirm())


def _lasting(run: Run[Any], trouble: Defect | Outage) -> Defect:
    """Return what blocks a saga: a defect, or an outage that has gone on for long.

    Raises:
        Outage: It hasn't.
    """
    if isinstance(trouble, Defect):
        return trouble
    run.outages += 1
    known, what = run.progress.blocked, type(trouble.error).__name__
    is_known = known is not None and (known.step, known.where, known.code) == (
        trouble.step,
        trouble.where,
        what,
    )
    if not is_known and run.outages < MAXIMUM_OUTAGES:
        raise trouble
    log_outage(run.id, trouble)
    return trouble.as_defect()


def _watched(run: Run[Any], move: Action) -> Action:
    """Have the attempt of a local step recorded before it, after a takeover.

    The process that had the saga before may have ended in this step. Otherwise
    the attempt isn't recorded: a commit for each local step would cost too much. Nor is
    it if the step is blocked and no process has ended in it: its stream would grow with
    each coordinator that meets the defect again.
    """
    if isinstance(move, Wait):
        return move
    run.is_taken_over = False
    if _is_blocked_in_order(run):
        return move
    if isinstance(move, Execute) and not run.progress.in_flight and move.start is None:
        return Commit((StepStarted(move.step.name, move.attempt),))
    return move


def _is_blocked_in_order(run: Run[Any]) -> bool:
    lease = run.shard_lease
    is_blocked = run.progress.blocked is not None
    return is_blocked and lease is not None and lease.was_released


def _no_longer_alone(progress: Progress) -> StepStarted | CompensationAttempted | None:
    """Return the record that an attempt isn't alone; None if none is made alone."""
    step = progress.step
    if progress.status is Status.RUNNING and step is not None:
        is_alone = progress.in_flight and progress.alone
        return StepStarted(step, progress.attempt) if is_alone else None
    for step in progress.plan:
        known = progress.compensation(step)
        if known.in_flight and known.alone:
            return CompensationAttempted(step, known.attempt)
    return None


def _is_given_back(run: Run[Any]) -> bool:
    return run.shard_lease is not None and run.shard_lease.leaving
