"""Keeps a coordinator up to date with the recorded events of leases and sagas.

It reads the log in order, so it knows of each saga that was started before it got a
shard when it gets the shard, and hears of each one that is started after.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, cast

from eventbraid.errors import OutcomeUnknown, SagaBlocked
from eventbraid.saga._cancellation import dropped_stray_cancellation
from eventbraid.saga.definition._declaration import declaration_of
from eventbraid.saga.machine._events import (
    ATTENTION_STREAM,
    ATTENTION_TYPE,
    BY_HAND_TYPES,
    COMPENSATION_STARTED_TYPE,
    COORDINATORS_STREAM,
    COORDINATORS_TYPE,
    ENDED_TYPES,
    STARTED_TYPE,
    STUCK_TYPE,
)
from eventbraid.saga.machine._progress import Status
from eventbraid.saga.running._blocked_error import blocked_error
from eventbraid.saga.running._clock import SagaClock
from eventbraid.saga.running._pace import TASKS_A_TURN, Pace
from eventbraid.saga.running._shard_lease import shard_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from eventbraid.saga.coordination._attention_reporter import AttentionReporter
    from eventbraid.saga.coordination._saga_loader import SagaLoader
    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._shards import Part, Shards
    from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
    from eventbraid.saga.coordination._wakeup import Wakeup
    from eventbraid.saga.coordination._worker_pool import WorkerPool
    from eventbraid.saga.definition._declaration import Declaration
    from eventbraid.saga.running._journal import Journal
    from eventbraid.saga.running._run import Run
    from eventbraid.store import AsyncStore, RecordedEvent

_log = logging.getLogger("eventbraid.saga")

_LEASE_TYPES = ("lease.acquired", "lease.released")
_TYPES = (
    *_LEASE_TYPES,
    *BY_HAND_TYPES,
    *ENDED_TYPES,
    ATTENTION_TYPE,
    COORDINATORS_TYPE,
    STARTED_TYPE,
    STUCK_TYPE,
    COMPENSATION_STARTED_TYPE,
)
# How many records are read at a time.
_PAGE = 1_024
# A busy log is looked at so often, and no oftener.
_PAUSE_SECONDS = 0.02
# How often others are looked at, whether they are alive.
_LOOK_SECONDS = 0.1


class LogFollower:
    """Follows the log for one coordinator.

    Args:
        journal: Reads and writes the sagas' streams.
        loader: Reads recorded sagas back.
        registry: Lists what is known of sagas.
        open_sagas: Knows which sagas are unfinished.
        shards: Knows which shards are this coordinator's.
        reporter: Reports in the log, and finds there, what is blocked.
        workers: Works on the sagas of these.
        wakeup: Is notified of work that the log doesn't report.
    """

    __slots__ = (
        "_able",
        "_asked",
        "_attention",
        "_clock",
        "_followed",
        "_gained",
        "_journal",
        "_loader",
        "_open",
        "_registry",
        "_shards",
        "_started",
        "_unanswered",
        "_wakeup",
        "_workers",
    )

    def __init__(
        self,
        journal: Journal,
        loader: SagaLoader,
        registry: SagaRegistry,
        open_sagas: UnfinishedSagas,
        shards: Shards,
        reporter: AttentionReporter,
        workers: WorkerPool,
        wakeup: Wakeup,
    ) -> None:
        """Follow nothing yet."""
        self._journal = journal
        self._clock = SagaClock(journal.reader.clock)
        self._loader = loader
        self._registry = registry
        self._open = open_sagas
        self._shards = shards
        self._attention = reporter
        self._workers = workers
        self._wakeup = wakeup
        self._followed = 0
        self._gained: dict[Part, None] = {}
        self._started: dict[str, None] = {}
        self._able: Collection[Collection[Declaration]] = ()
        self._asked: list[Run[Any]] = []
        self._unanswered = False

    @property
    def _store(self) -> AsyncStore:
        return self._journal.store

    async def begin(self) -> list[Run[Any]]:
        """Take what shards are free.

        Returns:
            The unfinished sagas of these, to be taken in.

        Raises:
            GraphMismatch: An unfinished saga was started with other steps under the
                same version, whichever coordinator drives it.
        """
        await self._open.load()
        self._followed = self._open.position
        await self._loader.check_graphs()
        await self._shards.open()
        await self._balance()
        await self._read_news()
        unfinished: list[Run[Any]] = []
        await self._attend(unfinished.append)
        return unfinished

    async def run(self) -> None:
        """Follow the log until the worker pool stops."""
        while True:
            wait = self._store.coordination.wait_beyond(self._followed)
            async with dropped_stray_cancellation(self._workers.host):
                await self._wakeup.wait(wait, self._seconds())
            if not self._workers.running:
                return
            await self._read_news()
            await self._attend(self.take_in)
            self._find_overdue()
            await self._report_blocked()
            await self._answer()
            await self._balance()
            async with dropped_stray_cancellation(self._workers.host):
                await self._workers.pause(_PAUSE_SECONDS)

    def take_in(self, run: Run[Any]) -> Run[Any]:
        """Drive a saga that was read back, unless it rests or is another coordinator's.

        Returns:
            The run by which it is known here.
        """
        known = self._registry.find(run.id)
        if known is not None:
            return known
        run = self._registry.recognized(run)
        status = run.progress.status
        blocked = self._registry.blocked.get(run.id)
        if blocked is not None and blocked.is_blocked_at(run.version):
            # The same code would meet the same defect.
            self._registry.hold_elsewhere(run)
            run.rest(blocked.error)
            return run
        if status.ended:
            run.rest()
            return run
        run.assign(self._shards.lease_for(run.id, declaration_of(run.saga)))
        if run.shard_lease is None:
            self._registry.hold_elsewhere(run)
        if status is Status.STUCK:
            if run.shard_lease is not None:
                self._registry.add_stuck(run)
            run.rest()
        else:
            self._wait_on(run)
            if run.shard_lease is not None:
                self._workers.work_on(run, resumed=True)
        return run

    def ask(self, run: Run[Any]) -> None:
        """Have the log asked whether a saga is blocked at another coordinator.

        Only the loop does: what it finds, and what it reads of shards that change
        hands, must not overtake each other.
        """
        if self._registry.elsewhere.get(run.id) is run:
            self._asked.append(run)
            self._wakeup.notify()

    async def catch_up(self, run: Run[Any]) -> None:
        """Take over what another coordinator has recorded of a saga meanwhile."""
        if self._registry.elsewhere.get(run.id) is not run:
            return
        try:
            if await self._journal.reader.is_current(run):
                return
            await self._journal.reload(run)
        except SagaBlocked as error:
            run.rest(error)
            return
        if run.progress.status.is_at_rest:
            run.rest()
        else:
            self._wait_on(run)

    # --- within ----------------------------------------------------------------------

    def _seconds(self) -> float:
        """Return how long the log may be waited for before something else is due."""
        seconds = math.inf
        is_shared = self._shards.runs and self._shards.has_company
        if is_shared or self._unanswered or self._registry.unreported:
            seconds = _LOOK_SECONDS
        deadline = self._registry.next_deadline()
        if deadline is not None:
            left = (deadline - self._clock.now()).total_seconds()
            seconds = min(seconds, max(left, 0.0))
        return seconds

    async def _read_news(self) -> None:
        # The head is asked first: the read may go beyond it, but not to the end.
        head = await self._store.head()
        pace = Pace()
        while self._followed < head:
            news = self._store.read_all(
                after=self._followed, types=_TYPES, limit=_PAGE, system=True
            )
            # All of a page first: a cancelled loop would leave the read open.
            page = [found async for found in news]
            for recorded in page:
                await self._note(recorded)
                self._followed = max(self._followed, recorded.position)
                await pace.keep()
            if len(page) < _PAGE:
                self._followed = max(self._followed, head)
        self._open.reach(self._followed)

    async def _note(self, recorded: RecordedEvent) -> None:
        self._open.fold(recorded)
        if recorded.type in _LEASE_TYPES:
            await self._note_lease(recorded)
        elif recorded.type == COORDINATORS_TYPE:
            if recorded.stream == COORDINATORS_STREAM:
                self._shards.note_members(recorded)
        elif recorded.type == ATTENTION_TYPE:
            self._note_notice(recorded)
        else:
            await self._note_saga(recorded)

    async def _note_lease(self, recorded: RecordedEvent) -> None:
        shard = shard_in(recorded.stream)
        if shard is None:
            return
        ended, gained = self._shards.note(recorded)
        self._registry.reopen(shard)
        if ended is not None:
            self._gained.pop((ended.shard, ended.needed), None)
            await self._let_go(self._registry.hand_over(ended))
        if gained is not None:
            self._gained[gained] = None

    async def _note_saga(self, recorded: RecordedEvent) -> None:
        saga_id, what = recorded.stream, recorded.type
        if what == STARTED_TYPE:
            self._started[saga_id] = None
        if what == STARTED_TYPE or recorded.version <= self._known_of(saga_id):
            return
        run = self._registry.find(saga_id)
        if saga_id in self._registry.blocked:
            # Somebody elsewhere wants it compensated, or has decided something.
            self._look_again(saga_id)
        elif run is None:
            run = self._registry.elsewhere.get(saga_id)
            if run is not None:
                await self.catch_up(run)
        elif saga_id in self._registry.at_work:
            run.wake()
        elif what in {*BY_HAND_TYPES, COMPENSATION_STARTED_TYPE}:
            self._workers.work_again(run)

    def _known_of(self, saga_id: str) -> int:
        """Give the version up to which a saga's records are known, or its own."""
        blocked = self._registry.blocked.get(saga_id)
        if blocked is not None:
            return blocked.version
        run = self._registry.find(saga_id) or self._registry.elsewhere.get(saga_id)
        return 0 if run is None else run.claimed

    def _note_notice(self, recorded: RecordedEvent) -> None:
        """Have those told who wait for a saga here that its owner has blocked."""
        if recorded.stream != ATTENTION_STREAM:
            return
        saga_id = self._attention.note(recorded)
        run = None if saga_id is None else self._registry.elsewhere.get(saga_id)
        if run is not None:
            self._asked.append(run)

    async def _report_blocked(self) -> None:
        """Tell those who wait elsewhere what is blocked here."""
        unreported = self._registry.take_unreported()
        try:
            moved = await self._attention.tell(unreported)
        except OutcomeUnknown:
            # A second notice does no harm. What was blocked meanwhile is newer.
            self._registry.report_again(unreported)
            return
        for saga_id in moved:
            self._look_again(saga_id)

    def _look_again(self, saga_id: str) -> None:
        """Have a saga that is blocked here read and driven, if that can be done now."""
        self._registry.unblock(saga_id)
        self._started[saga_id] = None
        self._wakeup.notify()

    async def _answer(self) -> None:
        """Tell those who wait for sagas that are blocked at other coordinators."""
        asked, self._asked = dict.fromkeys(self._asked), []
        for run in asked:
            await self.catch_up(run)
        versions = {run: run.version for run in asked if self._is_waited_for(run)}
        if not versions:
            return
        reasons = await self._attention.reasons(versions)
        for run, version in versions.items():
            reason = reasons.get(run.id)
            # Somebody else may have read it on meanwhile, up to its end.
            unmoved = run.version == version and self._is_waited_for(run)
            if reason is not None and unmoved:
                run.rest(blocked_error(run.progress, reason))

    def _is_waited_for(self, run: Run[Any]) -> bool:
        """Tell whether a saga is elsewhere, and isn't known to rest there."""
        is_elsewhere = self._registry.elsewhere.get(run.id) is run
        return is_elsewhere and not run.at_rest.is_set()

    def _wait_on(self, run: Run[Any]) -> None:
        """Let those wait who ask for the end of a saga."""
        if run.error is not None:
            # It may have been told meanwhile, of just what was read now.
            self.ask(run)
        run.go_on()

    async def _attend(self, take: Callable[[Run[Any]], object]) -> None:
        """Read the unfinished sagas that are to be driven here and are not.

        Args:
            take: Is called with each of them.
        """
        started, self._started = self._started, {}
        gained, self._gained = self._gained, {}
        await self._attend_to(started, take)

        def take_over(run: Run[Any]) -> None:
            run.take_over()
            take(run)

        for shard, needed in gained:
            for group in [*self._open.groups]:
                if group[0] == shard and needed in {None, group[1]}:
                    await self._attend_to(self._open.groups.get(group, ()), take_over)

    async def _attend_to(
        self, saga_ids: Iterable[str], take: Callable[[Run[Any]], object]
    ) -> None:
        pace = Pace(TASKS_A_TURN)
        for saga_id in [*saga_ids]:
            if saga_id in self._registry.starting:
                # Its starter drives it, or fails to: it is looked at again.
                self._started[saga_id] = None
            elif self._is_unattended(saga_id):
                await self._loader.load_for(saga_id, take)
            await pace.keep()
            if self._workers.stopping:
                return

    def _is_unattended(self, saga_id: str) -> bool:
        """Return whether a saga is to be driven here, or to be reported as blocked."""
        if self._registry.knows(saga_id) or not self._open.needs_driver(saga_id):
            return False
        needed = self._open.sagas[saga_id]
        if self._shards.lease_for(saga_id, needed) is None:
            return False
        is_runnable = needed is None or needed in self._shards.runs
        return is_runnable or not self._shards.can_be_run(cast("Declaration", needed))

    async def _balance(self) -> None:
        """Take and give back leases, as the live coordinators make it fair."""
        try:
            plan = await self._shards.plan()
            leaving = self._shards.give(plan.give)
            leaving += await self._shards.delegate([*self._open.groups])
            for shard_lease in leaving:
                await self._let_go(self._registry.of(shard_lease))
            await self._shards.release_idle()
            await self._shards.take(plan)
        except OutcomeUnknown:
            # The log will tell; until then nothing more is asked of it.
            self._unanswered = True
        else:
            self._unanswered = False
        self._review_foreign()

    def _review_foreign(self) -> None:
        """Block sagas that no live coordinator can run any more; free the others."""
        able = [*self._shards.able.values()]
        if able == self._able:
            return
        self._able = able
        for (shard, needed), group in self._open.groups.items():
            if needed is None or needed in self._shards.runs:
                continue
            if shard not in self._shards.mine:
                continue
            if not self._shards.can_be_run(needed):
                self._gained[shard, needed] = None
                self._wakeup.notify()
                continue
            for saga_id in self._registry.blocked.keys() & group.keys():
                self._registry.unblock(saga_id)

    def _find_overdue(self) -> None:
        """Log the blocked sagas whose deadline has passed. They aren't compensated."""
        for one in self._registry.find_overdue(self._clock.now()):
            _log.error(
                "saga %r is overdue since %s and can't be driven: %s",
                one.id,
                one.progress.deadline,
                one.error.reason,
            )

    async def _let_go(self, runs: Iterable[Run[Any]]) -> None:
        """Let the sagas of an ended lease take no further action here."""
        pace = Pace()
        for run in runs:
            run.let_go()
            await pace.keep()
