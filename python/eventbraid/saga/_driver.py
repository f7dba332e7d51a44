"""Drives one saga: the move that the plan says, again and again, until it rests."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio

from eventbraid.errors import OutcomeUnknown, RetriesExhausted, VersionConflict
from eventbraid.saga._backward import Backward
from eventbraid.saga._follow import interruption
from eventbraid.saga._forward import Forward
from eventbraid.saga._plan import (
    Call,
    Commit,
    Execute,
    Move,
    Rest,
    UndoCall,
    UndoExecute,
    Wait,
    is_overdue,
    next_move,
)
from eventbraid.saga._progress import Status
from eventbraid.saga._trouble import breather

if TYPE_CHECKING:
    from datetime import datetime

    from eventbraid.saga._handle import Run
    from eventbraid.saga._journal import Journal
    from eventbraid.saga._slots import Slots


class Driver:
    """Drives sagas, one call of `drive` each, until they rest or it is told to stop."""

    __slots__ = ("_backward", "_draw", "_forward", "_journal", "_slots", "stopping")

    def __init__(self, journal: Journal, slots: Slots) -> None:
        """Drive by a journal.

        Args:
            journal: Reads and writes the sagas' streams.
            slots: Bounds how many sagas are at work; one that sleeps gives its place.
        """
        self._journal = journal
        self._slots = slots
        self._draw = random.Random().random
        self._forward = Forward(journal, self._draw)
        self._backward = Backward(journal, self._draw)
        self.stopping = False

    async def drive(self, run: Run[Any], *, resumed: bool) -> None:
        """Make the saga's moves, one after the other.

        Args:
            run: The saga; it holds a slot.
            resumed: Whether an attempt that is under way was made by a process that
                has ended.

        Raises:
            SagaParked: This program can't fold the saga's results.
            RoleLost: The saga's shard is another coordinator's.
            EventbraidError: The store is out of order.
        """
        while not (self.stopping or _is_given_back(run)):
            try:
                if run.stale:
                    await self._journal.reload(run)
                if await self._make_next(run, resumed=resumed):
                    return
                resumed = False
            except VersionConflict:
                # Somebody else wrote to the stream: nothing of ours was recorded.
                await self._journal.reload(run)
            except (OutcomeUnknown, RetriesExhausted):
                await anyio.sleep(breather(self._draw()))
                await self._journal.reload(run)

    async def _make_next(self, run: Run[Any], *, resumed: bool) -> bool:
        """Make one move, and tell whether the saga rests."""
        if await self._has_awaited_time(run):
            return False
        died = interruption(run.progress) if resumed else None
        if died is not None:
            await self._forward.resolve(run, died)
            return False
        move = next_move(run.saga, run.progress, run.state, run.clock.now())
        await self._make(run, move)
        return isinstance(move, Rest)

    async def _make(self, run: Run[Any], move: Move) -> None:
        match move:
            case Execute(node, attempt):
                await self._forward.execute(run, node, attempt)
            case Call(node, attempt):
                await self._forward.call(run, node, attempt)
            case Commit(events):
                await self._journal.commit(run, events, run.state)
            case UndoCall(node, attempt):
                await self._backward.call(run, node, attempt)
            case UndoExecute(node, attempt):
                await self._backward.execute(run, node, attempt)
            case Wait(until):
                await self._sleep(run, until)
            case Rest():
                return

    async def _has_awaited_time(self, run: Run[Any]) -> bool:
        """Wait for a confirmed time, if the saga's deadline seems to have passed.

        A process that starts while the wall clock is wrong would undo the saga.

        Returns:
            Whether it has waited, so that all is to be looked at again.
        """
        progress = run.progress
        if progress.deadline is None or progress.status is not Status.RUNNING:
            return False
        if not is_overdue(run.saga, progress, run.clock.now()):
            return False
        seconds = run.clock.seconds_to_confirm()
        if not seconds:
            return False
        await self._sleep(run, run.clock.now() + timedelta(seconds=seconds))
        return True

    async def _sleep(self, run: Run[Any], until: datetime) -> None:
        seconds = (until - run.clock.now()).total_seconds()
        if run.holds_slot:
            self._slots.release()
            run.holds_slot = False
        with anyio.move_on_after(seconds):
            await run.nudged.wait()
        if not run.holds_slot:
            await self._slots.acquire()
            run.holds_slot = True


def _is_given_back(run: Run[Any]) -> bool:
    return run.tenure is not None and run.tenure.leaving
