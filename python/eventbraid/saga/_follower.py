"""Keeps a coordinator in step with what all processes record of roles and sagas.

It reads the log in order, so it knows of each saga that was started before it got a
shard when it gets the shard, and hears of each one that is started after.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from eventbraid.errors import OutcomeUnknown, SagaParked
from eventbraid.saga._event import (
    ATTENTION_STREAM,
    ATTENTION_TYPE,
    BY_HAND_TYPES,
    ENDED_TYPES,
    STARTED_TYPE,
    STUCK_TYPE,
    UNDO_TYPE,
)
from eventbraid.saga._journal import parked
from eventbraid.saga._progress import Status
from eventbraid.saga._shards import shard_in, shard_of
from eventbraid.store._waiting import wait_beyond

if TYPE_CHECKING:
    from eventbraid.saga._alarm import Alarm
    from eventbraid.saga._archive import Archive
    from eventbraid.saga._checkpoint import OpenSagas
    from eventbraid.saga._crew import Crew
    from eventbraid.saga._handle import Run
    from eventbraid.saga._journal import Journal
    from eventbraid.saga._parking import Parking
    from eventbraid.saga._roster import Roster
    from eventbraid.saga._shards import Shards, Tenure
    from eventbraid.store import AsyncEventStore, RecordedEvent

_ROLE_TYPES = ("role.taken", "role.released")
_TYPES = (
    *_ROLE_TYPES,
    *BY_HAND_TYPES,
    *ENDED_TYPES,
    ATTENTION_TYPE,
    STARTED_TYPE,
    STUCK_TYPE,
    UNDO_TYPE,
)
# A busy log is looked at so often, and no oftener.
_PAUSE_SECONDS = 0.02
# How often others are looked at, whether they are alive.
_LOOK_SECONDS = 0.1


class Follower:
    """Follows the log for one coordinator.

    Args:
        journal: Reads and writes the sagas' streams.
        archive: Reads recorded sagas back.
        roster: Lists what is known of sagas.
        open_sagas: Knows which sagas are unfinished.
        shards: Knows which shards are this coordinator's.
        parking: Tells and finds in the log what is parked.
        crew: Works on the sagas of these.
        alarm: Rings when there is something to be done that the log doesn't tell.
    """

    __slots__ = (
        "_alarm",
        "_archive",
        "_asked",
        "_crew",
        "_followed",
        "_gained",
        "_journal",
        "_open",
        "_parking",
        "_roster",
        "_shards",
        "_started",
        "_unanswered",
    )

    def __init__(
        self,
        journal: Journal,
        archive: Archive,
        roster: Roster,
        open_sagas: OpenSagas,
        shards: Shards,
        parking: Parking,
        crew: Crew,
        alarm: Alarm,
    ) -> None:
        """Follow nothing yet."""
        self._journal = journal
        self._archive = archive
        self._roster = roster
        self._open = open_sagas
        self._shards = shards
        self._parking = parking
        self._crew = crew
        self._alarm = alarm
        self._followed = 0
        self._gained: set[int] = set()
        self._started: set[str] = set()
        self._asked: list[Run[Any]] = []
        self._unanswered = False

    @property
    def _store(self) -> AsyncEventStore:
        return self._journal.store

    async def begin(self) -> list[Run[Any]]:
        """Take what shards are free.

        Returns:
            The unfinished sagas of these, to be taken in.

        Raises:
            GraphMismatch: One was started with other steps under the same version.
        """
        await self._open.load()
        self._followed = self._open.position
        await self._shards.open()
        await self._balance()
        await self._read_news()
        return await self._archive.load_all(self._unattended(), strict=True)

    async def run(self) -> None:
        """Follow the log until the crew is told to stop."""
        while True:
            unanswered = self._unanswered or self._roster.untold
            busy = self._shards.has_company or unanswered
            seconds = _LOOK_SECONDS if busy else math.inf
            await self._alarm.wait(wait_beyond(self._store, self._followed), seconds)
            if not self._crew.running:
                return
            await self._read_news()
            for run in await self._archive.load_all(self._unattended()):
                self.take_in(run)
            await self._tell_parked()
            await self._answer()
            await self._balance()
            await self._crew.pause(_PAUSE_SECONDS)

    def take_in(self, run: Run[Any]) -> Run[Any]:
        """Drive a saga that was read back, unless it rests or is another coordinator's.

        Returns:
            The run by which it is known here.
        """
        known = self._roster.find(run.id)
        if known is not None:
            return known
        run = self._roster.recognized(run)
        status = run.progress.status
        if status.ended:
            run.rest()
            return run
        run.tenure = self._shards.tenure_of(run.id)
        if run.tenure is None:
            self._roster.elsewhere[run.id] = run
        if status is Status.STUCK:
            if run.tenure is not None:
                self._roster.stuck[run.id] = run
            run.rest()
        else:
            self._wait_on(run)
            if run.tenure is not None:
                self._crew.work_on(run, resumed=True)
        return run

    def ask(self, run: Run[Any]) -> None:
        """Have the log asked whether a saga is parked at another coordinator.

        Only the loop does: what it finds, and what it reads of shards that change
        hands, must not overtake each other.
        """
        if self._roster.elsewhere.get(run.id) is run:
            self._asked.append(run)
            self._alarm.ring()

    async def catch_up(self, run: Run[Any]) -> None:
        """Take over what another coordinator has recorded of a saga meanwhile."""
        if self._roster.elsewhere.get(run.id) is not run:
            return
        try:
            if await self._journal.is_current(run):
                return
            await self._journal.reload(run)
        except SagaParked as error:
            run.rest(error)
            return
        if run.progress.status.ended or run.progress.status is Status.STUCK:
            run.rest()
        else:
            self._wait_on(run)

    # --- within ----------------------------------------------------------------------

    async def _read_news(self) -> None:
        # The head is asked first: the read may go beyond it, but not to the end.
        head = await self._store.head()
        if head <= self._followed:
            return
        news = self._store.read_all(after=self._followed, types=_TYPES)
        # All of it first: a cancelled loop would leave the read open.
        for recorded in [found async for found in news]:
            self._followed = max(self._followed, recorded.position)
            self._open.fold(recorded)
            if recorded.type in _ROLE_TYPES:
                self._note_role(recorded)
            elif recorded.type == ATTENTION_TYPE:
                self._note_notice(recorded)
            else:
                await self._note_saga(recorded)
        self._followed = max(self._followed, head)
        self._open.reach(self._followed)

    def _note_role(self, recorded: RecordedEvent) -> None:
        tenure = self._shards.note(recorded)
        shard = shard_in(recorded.stream)
        if shard is not None:
            self._roster.reopen(shard)
        if tenure is None:
            return
        if tenure.leaving:
            self._gained.discard(tenure.shard)
            self._leave(tenure)
            self._roster.hand_over(tenure)
        else:
            self._gained.add(tenure.shard)

    async def _note_saga(self, recorded: RecordedEvent) -> None:
        saga_id, what = recorded.stream, recorded.type
        if what == STARTED_TYPE:
            self._started.add(saga_id)
        if what == STARTED_TYPE or recorded.version <= self._known_of(saga_id):
            return
        run = self._roster.find(saga_id)
        if saga_id in self._roster.parked:
            # Somebody elsewhere wants it undone, or has decided something.
            self._look_again(saga_id)
        elif run is None:
            run = self._roster.elsewhere.get(saga_id)
            if run is not None:
                await self.catch_up(run)
        elif saga_id in self._roster.at_work:
            run.wake(stale=True)
        elif what in BY_HAND_TYPES:
            self._crew.work_again(run)

    def _known_of(self, saga_id: str) -> int:
        """Give the version up to which a saga's records are known, or its own."""
        parked = self._roster.parked.get(saga_id)
        if parked is not None:
            return parked.version
        run = self._roster.find(saga_id) or self._roster.elsewhere.get(saga_id)
        return 0 if run is None else run.claimed

    def _note_notice(self, recorded: RecordedEvent) -> None:
        """Have those told who wait for a saga here that its owner has parked."""
        if recorded.stream != ATTENTION_STREAM:
            return
        saga_id = self._parking.note(recorded)
        run = None if saga_id is None else self._roster.elsewhere.get(saga_id)
        if run is not None:
            self._asked.append(run)

    async def _tell_parked(self) -> None:
        """Tell those who wait elsewhere what is parked here."""
        untold = self._roster.take_untold()
        try:
            moved = await self._parking.tell(untold)
        except OutcomeUnknown:
            # A second notice does no harm. What was parked meanwhile is newer.
            self._roster.untold = {one.id: one for one in untold} | self._roster.untold
            return
        for saga_id in moved:
            self._look_again(saga_id)

    def _look_again(self, saga_id: str) -> None:
        """Have a saga that is parked here read and driven, if that can be done now."""
        self._roster.parked.pop(saga_id, None)
        self._started.add(saga_id)
        self._alarm.ring()

    async def _answer(self) -> None:
        """Tell those who wait for sagas that are parked at other coordinators."""
        asked, self._asked = dict.fromkeys(self._asked), []
        for run in asked:
            await self.catch_up(run)
        versions = {run: run.version for run in asked if self._is_waited_for(run)}
        if not versions:
            return
        reasons = await self._parking.reasons(versions)
        for run, version in versions.items():
            reason = reasons.get(run.id)
            # Somebody else may have read it on meanwhile, up to its end.
            unmoved = run.version == version and self._is_waited_for(run)
            if reason is not None and unmoved:
                run.rest(parked(run.progress, reason))

    def _is_waited_for(self, run: Run[Any]) -> bool:
        """Tell whether a saga is elsewhere, and isn't known to rest there."""
        is_elsewhere = self._roster.elsewhere.get(run.id) is run
        return is_elsewhere and not run.at_rest.is_set()

    def _wait_on(self, run: Run[Any]) -> None:
        """Let those wait who ask for the end of a saga."""
        if run.error is not None:
            # It may have been told meanwhile, of just what was read now.
            self.ask(run)
        run.go_on()

    def _unattended(self) -> list[str]:
        """Give the unfinished sagas that are to be driven here and are not."""
        wanted = set(self._started)
        if self._gained:
            wanted |= {s for s in self._open.ids if shard_of(s) in self._gained}
        self._gained.clear()
        # Whoever is starting one will drive it, or fail to: it is looked at again.
        self._started = wanted & self._roster.starting.keys()
        wanted -= self._started
        return sorted(
            saga_id
            for saga_id in wanted & self._open.ids
            if self._shards.tenure_of(saga_id) and not self._roster.knows(saga_id)
        )

    async def _balance(self) -> None:
        """Take and give back shards, as who is there makes it fair."""
        try:
            plan = await self._shards.plan()
            for tenure in self._shards.give(plan.give):
                self._leave(tenure)
            await self._shards.release_idle()
            await self._shards.take(plan)
        except OutcomeUnknown:
            # The log will tell; until then nothing more is asked of it.
            self._unanswered = True
        else:
            self._unanswered = False

    def _leave(self, tenure: Tenure) -> None:
        """Have the sagas of a shard end the move that they make."""
        for run in self._roster.of(tenure):
            run.wake(stale=False)
