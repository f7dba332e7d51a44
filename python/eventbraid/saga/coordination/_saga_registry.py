"""The unfinished sagas of one coordinator, by what they are doing."""

from __future__ import annotations

import heapq
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from eventbraid._logging import SAGA
from eventbraid.errors import CoordinatorClosed, SagaBlocked
from eventbraid.saga.machine._progress import Progress, Status
from eventbraid.saga.running._clock import time_of_day
from eventbraid.saga.running._pace import TASKS_A_TURN, Pace
from eventbraid.saga.running._shard_lease import shard_of

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping
    from datetime import datetime

    from eventbraid.saga.coordination._wakeup import Wakeup
    from eventbraid.saga.running._records import StreamHead
    from eventbraid.saga.running._run import Run
    from eventbraid.saga.running._shard_lease import ShardLease

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class SagaSummary:
    """An unfinished saga, as a coordinator lists it.

    Attributes:
        id: The saga's id.
        saga: The name of its declaration.
        version: The version of its graph.
        status: Where it stands.
        step: The step that is attempted or compensated, if there is one.
        failure: The reason for its compensation, or why it is stuck or blocked; None
            without one.
        parked: Whether it can't be driven: no live coordinator has its code, or a
            defect in a step prevents it.
        overdue: Whether its deadline has passed and it isn't being compensated. The
            deadline of a blocked saga doesn't compensate it.

    Example:
        >>> import eventbraid as eb
        >>> eb.SagaSummary("saga-1", "ship", 1, eb.Status.RUNNING, "pack", None).step
        'pack'
    """

    id: str
    saga: str
    version: int
    status: Status
    step: str | None
    failure: str | None
    parked: bool = False
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class BlockedSaga:
    """A saga that this program can't drive.

    Attributes:
        progress: As far as it can be folded.
        error: What is missing.
        head: The head of its stream when that was found.
        shard_lease: The lease under which it was found.
        overdue: Whether it was reported that its deadline has passed.
    """

    progress: Progress
    error: SagaBlocked
    head: StreamHead
    shard_lease: ShardLease
    overdue: bool = False

    @property
    def id(self) -> str:
        """The saga's id."""
        return self.progress.id

    @property
    def version(self) -> int:
        """The version of its stream at which it was blocked."""
        return self.head.version

    def is_blocked_at(self, version: int) -> bool:
        """Return whether a call with a defect blocks the saga at a stream's version.

        Such a call isn't made again by the same program. The functions without effects
        are called again when the saga is asked for.
        """
        blocked = self.progress.blocked
        if blocked is None or self.version != version:
            return False
        return blocked.where in {"action", "ask", "compensation"}


class SagaRegistry:
    """Which sagas are at work, stuck or blocked here, and which are waited for.

    Attributes:
        at_work: Those that are driven.
        stuck: Those that wait for a person.
        blocked: Those that this program can't drive.
        unreported: Those that were blocked since the log was told of such.
        starting: Those whose start is being recorded, each with its end.
        elsewhere: Those that aren't driven here, while somebody holds them.
    """

    __slots__ = (
        "_deadlines",
        "_wakeup",
        "at_work",
        "blocked",
        "elsewhere",
        "starting",
        "stuck",
        "unreported",
    )

    def __init__(self, wakeup: Wakeup) -> None:
        """Begin with none.

        Args:
            wakeup: Is notified when there is something to report.
        """
        self._wakeup = wakeup
        # Of blocked sagas, also of some that aren't blocked any more.
        self._deadlines: list[tuple[datetime, str]] = []
        self.at_work: dict[str, Run[Any]] = {}
        self.stuck: dict[str, Run[Any]] = {}
        self.blocked: dict[str, BlockedSaga] = {}
        self.unreported: dict[str, BlockedSaga] = {}
        self.starting: dict[str, anyio.Event] = {}
        self.elsewhere: MutableMapping[str, Run[Any]] = weakref.WeakValueDictionary()

    def find(self, saga_id: str) -> Run[Any] | None:
        """Give the run of a saga that is at work or stuck."""
        return self.at_work.get(saga_id) or self.stuck.get(saga_id)

    def knows(self, saga_id: str) -> bool:
        """Tell whether a saga is listed."""
        return self.find(saga_id) is not None or saga_id in self.blocked

    def is_held(self, saga_id: str) -> bool:
        """Tell whether a saga is worked on, started or waited for here."""
        held = (self.starting, self.at_work, self.stuck, self.elsewhere)
        return any(saga_id in known for known in held)

    def recognized(self, run: Run[Any]) -> Run[Any]:
        """Give the run that somebody here holds of a saga, with what was read now."""
        held = self.elsewhere.pop(run.id, None)
        if held is None or held is run:
            return run
        held.adopt(run)
        return held

    def begin(self, run: Run[Any]) -> None:
        """Put a saga to work."""
        self.stuck.pop(run.id, None)
        self.blocked.pop(run.id, None)
        self.at_work[run.id] = run

    def leave(self, run: Run[Any]) -> None:
        """Take a saga that has come to rest from work, and tell those who wait."""
        if self.at_work.get(run.id) is run:
            del self.at_work[run.id]
        if run.progress.status is Status.STUCK:
            self.stuck[run.id] = run
        run.rest()

    def add_blocked(
        self,
        progress: Progress,
        error: SagaBlocked,
        head: StreamHead,
        shard_lease: ShardLease,
    ) -> None:
        """List a saga that this program can't drive, and tell those who wait.

        Args:
            progress: The saga's progress, as far as it can be folded.
            error: What is missing.
            head: The head of its stream.
            shard_lease: The lease under which it is blocked.
        """
        SAGA.error("%s", error, exc_info=error.__cause__)
        blocked = BlockedSaga(progress, error, head, shard_lease)
        self.blocked[blocked.id] = self.unreported[blocked.id] = blocked
        if progress.deadline is not None:
            heapq.heappush(self._deadlines, (progress.deadline, blocked.id))
        self._wakeup.notify()
        # Somebody may have begun to wait when it was another coordinator's.
        run = self.at_work.pop(blocked.id, None) or self.elsewhere.get(blocked.id)
        if run is not None:
            # Kept, so that those who hold it hear when it can be driven again.
            self.elsewhere[blocked.id] = run
            run.rest(error)

    def unblock(self, saga_id: str) -> None:
        """List a saga as blocked no longer."""
        self.blocked.pop(saga_id, None)

    def add_stuck(self, run: Run[Any]) -> None:
        """List a saga that waits for a person."""
        self.stuck[run.id] = run

    def hold_elsewhere(self, run: Run[Any]) -> None:
        """Keep the run of a saga that isn't driven here, while a caller holds it."""
        self.elsewhere[run.id] = run

    def begin_start(self, saga_id: str) -> None:
        """List a saga whose start is being recorded."""
        self.starting[saga_id] = anyio.Event()

    def end_start(self, saga_id: str) -> None:
        """Wake the callers that wait for the end of a start."""
        self.starting.pop(saga_id).set()

    def report_again(self, unreported: Iterable[BlockedSaga]) -> None:
        """Report blocked sagas again, but for those that were blocked anew since."""
        self.unreported = {one.id: one for one in unreported} | self.unreported

    def take_unreported(self) -> list[BlockedSaga]:
        """Give those that are to be told of, and are still blocked."""
        unreported, self.unreported = self.unreported, {}
        return [one for one in unreported.values() if self.blocked.get(one.id) is one]

    def find_overdue(self, now: datetime) -> list[BlockedSaga]:
        """Return the blocked sagas whose deadline has passed since the last time.

        They are to be told of once more.
        """
        found: list[BlockedSaga] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, saga_id = heapq.heappop(self._deadlines)
            blocked = self.blocked.get(saga_id)
            if (
                blocked is None
                or blocked.overdue
                or not is_overdue(blocked.progress, now)
            ):
                continue
            blocked = replace(blocked, overdue=True)
            self.blocked[saga_id] = self.unreported[saga_id] = blocked
            found.append(blocked)
        return found

    def next_deadline(self) -> datetime | None:
        """Return when a blocked saga's deadline may pass next."""
        return self._deadlines[0][0] if self._deadlines else None

    def reopen(self, shard: int) -> None:
        """Let those wait again who wait for what a shard's owner so far had blocked."""
        for run in [*self.elsewhere.values()]:
            if run.error is None or run.progress.status.ended:
                continue
            if shard_of(run.id) == shard:
                run.go_on()

    async def close(self, cause: BaseException | None = None) -> None:
        """Release those who wait: their saga isn't driven here any more.

        Args:
            cause: The error that ended the coordinator, if one did.
        """
        pace = Pace(TASKS_A_TURN)
        for run in [*self.at_work.values(), *self.elsewhere.values()]:
            if not run.at_rest.is_set():
                closed = CoordinatorClosed()
                closed.__cause__ = cause
                run.rest(closed)
            await pace.keep()
        self.at_work.clear()
        self.elsewhere.clear()

    def of(self, shard_lease: ShardLease) -> list[Run[Any]]:
        """Return the sagas that are driven under a lease."""
        runs = [*self.at_work.values(), *self.stuck.values()]
        return [run for run in runs if run.shard_lease is shard_lease]

    def hand_over(self, shard_lease: ShardLease) -> list[Run[Any]]:
        """Remove the sagas of a lease from the lists; their waiters keep waiting.

        Returns:
            The runs that were under it.
        """
        runs = self.of(shard_lease)
        for run in runs:
            self.at_work.pop(run.id, None)
            self.stuck.pop(run.id, None)
            self.elsewhere[run.id] = run
        for saga_id, blocked in [*self.blocked.items()]:
            if blocked.shard_lease is shard_lease:
                del self.blocked[saga_id]
        return runs

    async def summaries(self) -> list[SagaSummary]:
        """List all, those at work first."""
        found: list[SagaSummary] = []
        pace = Pace()
        for run in [*self.at_work.values(), *self.stuck.values()]:
            found.append(summary_of(run.progress))
            await pace.keep()
        return found + await self.blocked_summaries()

    async def blocked_summaries(self) -> list[SagaSummary]:
        """List the blocked ones."""
        found: list[SagaSummary] = []
        pace = Pace()
        for one in [*self.blocked.values()]:
            found.append(_blocked(one))
            await pace.keep()
        return found


def summary_of(progress: Progress) -> SagaSummary:
    """Summarize a saga, whoever drives it."""
    return SagaSummary(
        progress.id,
        progress.saga,
        progress.version,
        progress.status,
        progress.current,
        progress.trouble,
        overdue=is_overdue(progress, time_of_day()),
    )


def is_overdue(progress: Progress, now: datetime) -> bool:
    """Return whether a saga's deadline has passed and it isn't being compensated."""
    if progress.status.ended or progress.compensating or progress.deadline is None:
        return False
    return now >= progress.deadline


def _blocked(blocked: BlockedSaga) -> SagaSummary:
    progress = blocked.progress
    return SagaSummary(
        progress.id,
        progress.saga,
        progress.version,
        progress.status,
        progress.current,
        blocked.error.reason,
        parked=True,
        overdue=is_overdue(progress, time_of_day()),
    )
