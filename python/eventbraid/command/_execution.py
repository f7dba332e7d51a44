"""One call of `execute`: read, fold, decide, append, and try again after conflicts."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from eventbraid._logging import COMMAND
from eventbraid.command._categories import (
    category_of,
    category_queue,
    queued_category,
)
from eventbraid.command._content import content_of
from eventbraid.command._decision import decided, expectations, holds
from eventbraid.command._executed import Executed
from eventbraid.command._provenance import (
    is_raised_by_command,
    mark_raised_by_command,
)
from eventbraid.command._queue import TURN_SECONDS, Turns
from eventbraid.command._shared_reservation import SharedReservation, reserve_delay
from eventbraid.errors import (
    DeadlineExceeded,
    EventbraidError,
    OutcomeUnknown,
    RetriesExhausted,
    StreamCondition,
    VersionConflict,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eventbraid.command._command_base import CommandBase
    from eventbraid.command._decision import Decision
    from eventbraid.command._fast_path import FailedAttempt
    from eventbraid.command._port import Port
    from eventbraid.command._queue import StreamQueues
    from eventbraid.command._reading import Reading
    from eventbraid.command._retry_policy import RetrySchedule
    from eventbraid.command._shared_state import SharedStates
    from eventbraid.command._write import Write
    from eventbraid.event import EventDecoder
    from eventbraid.store import Appended, Expectation

CONFLICTS_BEFORE_RESERVING = 3
"""The number of conflicts after which a command reserves its streams, so that the
writers of other processes wait for it."""

RESERVATION_SECONDS = 0.1
"""The minimum duration of a reservation; four times the longest attempt is added.

The store shortens the sum to its own maximum, `LONGEST_SECONDS` in
``store/_reservation.py``, and reports the result as `StreamReservation.seconds`. So a
command whose attempts take longer than 1.2 s gets a reservation for fewer than four
attempts. If an attempt takes longer than the maximum, the reservation ends before the
commit of the attempt, and the command may have another conflict. No wrong event is
written, because the versions of the streams decide about the commit.
"""


class _ReservationOptions(TypedDict, total=False):
    categories: Sequence[str]


@dataclass(frozen=True, slots=True)
class Terms:
    """The arguments of an execution besides the command."""

    idempotency_key: str | None
    metadata: Mapping[str, str] | None
    also: tuple[Write, ...]
    expect: Mapping[str, Expectation] | None
    deadline: float | None
    begun_at: float
    give_up_at: float


class Execution:
    """The attempts of one command."""

    __slots__ = (
        "_attempts",
        "_began",
        "_command",
        "_contended",
        "_content",
        "_decision",
        "_decoder",
        "_doubt",
        "_has_published",
        "_is_committed",
        "_last",
        "_longest",
        "_owns_reservation",
        "_port",
        "_queues",
        "_reading",
        "_reservation",
        "_retry",
        "_terms",
        "_turns",
    )

    def __init__(
        self,
        command: CommandBase,
        terms: Terms,
        port: Port,
        queues: StreamQueues,
        retry: RetrySchedule,
        reading: Reading,
        decoder: EventDecoder,
    ) -> None:
        """Prepare to execute a command.

        Raises:
            InvalidArgument: There is an idempotency key, but the fields can't be
                encoded.
        """
        self._command = command
        self._terms = terms
        self._port = port
        self._queues = queues
        self._retry = retry
        self._attempts = 0
        self._began = terms.begun_at
        self._content = None if terms.idempotency_key is None else content_of(command)
        self._contended: dict[str, bool] = {}
        self._decision: Decision | None = None
        self._doubt: OutcomeUnknown | None = None
        self._has_published = False
        self._is_committed = False
        self._last: VersionConflict | OutcomeUnknown | None = None
        self._longest = 0.0
        self._reservation: SharedReservation | None = None
        self._owns_reservation = False
        self._decoder = decoder
        self._reading = reading
        self._turns: Turns | None = None

    async def run(self, failed: FailedAttempt | None = None) -> Executed:
        """Make attempts until one succeeds, is refused, or was the last one allowed.

        Args:
            failed: The first attempt, if it was made already and there was a conflict.
        """
        self._refuse_late()
        try:
            try:
                return await self._attempt_until_done(failed)
            finally:
                if self._reservation is not None:
                    self._leave_reservation()
        except BaseException as error:
            # Also while it waits for the next attempt, looks up the key, or leaves its
            # reservation after the commit.
            self._mark_doubt(error)
            raise
        finally:
            # The tracebacks of these errors refer to this object. The reference cycle
            # would keep all events in memory until the garbage collector runs. No
            # function is called here: a signal handler could raise an exception in it,
            # which would not be marked.
            self._last = self._doubt = None

    async def _attempt_until_done(self, failed: FailedAttempt | None) -> Executed:
        if failed is not None:
            await self._continue_after(failed)
        # While a command reads a stream from its beginning, it has the turn. The
        # commands that wait for it then find the state in the cache.
        self._contended.update(dict.fromkeys(self._reading.cold_streams(), True))
        while True:
            is_in_turn = self._is_contended()
            try:
                if is_in_turn:
                    return await self._attempt_in_turn()
                return await self._attempt(None)
            except VersionConflict as conflict:
                self._note_duration()
                self._raise_foreign(conflict, self._reading.versions)
                if is_in_turn:
                    self._note_others(conflict)
                self._end_sharing()
                self._reading.note_conflict(conflict)
                self._last = conflict
            except OutcomeUnknown as unknown:
                self._raise_final(unknown)
                self._note_duration()
                self._doubt = unknown
                known = await self._known_after(unknown)
                if known is not None:
                    return known
                self._last = unknown
            except Exception as error:
                self._raise_doubt(error)
                raise
            # Outside of the handlers: a hook that is called there would find the
            # exception, with the values in its frames, by `sys.exception`.
            await self._wait_before_retry(self._last)

    async def _continue_after(self, failed: FailedAttempt) -> None:
        self._attempts = 1
        self._decision = failed.decision
        self._note_duration()
        self._raise_foreign(failed.conflict, failed.versions)
        self._reading.note_conflict(failed.conflict)
        self._last = failed.conflict
        await self._wait_before_retry(failed.conflict)

    def _is_contended(self) -> bool:
        """Return whether an attempt has to wait for its turn on a stream."""
        kinds, queues = self._reading.kinds, self._queues
        for stream in queues.contended(kinds):
            self._contended.setdefault(stream, True)
        for stream in queues.reservations.written_by_others(kinds, self._began):
            self._contended.setdefault(stream, True)
        return bool(self._contended)

    def _note_others(self, conflict: VersionConflict) -> None:
        """Note which streams other processes write, as those of this one take turns."""
        streams = [one.stream for one in conflict.failures]
        self._queues.reservations.note_others(streams, self._port.now())

    def _note_duration(self) -> None:
        """Note the duration of a failed attempt; successful attempts read no clock."""
        self._longest = max(self._longest, self._port.now() - self._began)

    async def _attempt_in_turn(self) -> Executed:
        turns = Turns(self._queues, self._port, TURN_SECONDS + 3 * self._longest)
        try:
            if not self._is_undisturbed():
                builds_on = self._reading.builds_on(self._port, self._contended)
                await turns.take(self._contended, self._terms.give_up_at, builds_on)
            self._refuse_late()
            await self._reserve_if_starving()
            with self._reservation.use() if self._reservation else nullcontext():
                self._began = self._port.now()
                self._turns = turns
                self._reading.require(turns.versions())
                return await self._attempt(turns.states())
        finally:
            self._turns = None
            turns.give_back()

    async def _reserve_if_starving(self) -> None:
        """Reserve the streams after some conflicts, so that other writers wait.

        The reservation is kept for further attempts: the first one may still conflict
        with an append that was in progress when the reservation began. Other commands
        of the process use it, too. If another process holds a reservation, the command
        waits for that one no longer than a turn lasts, because the other process may be
        unable to continue.
        """
        reservations, shared = self._port.reservations, self._queues.reservations
        if reservations is None or self._is_undisturbed():
            return
        now = self._port.now()
        self._leave_reservation()
        self._reservation = shared.join(self._contended, now)
        is_last_attempt = not self._retry.allows_another(self._attempts + 1)
        is_starving = self._attempts >= CONFLICTS_BEFORE_RESERVING or (
            self._attempts and is_last_attempt
        )
        if self._reservation or not (
            is_starving or shared.written_by_others(self._contended, now)
        ):
            return
        names = sorted(self._contended)
        streams = [name for name in names if queued_category(name) is None]
        categories = [one for name in names if (one := queued_category(name))]
        lasts = RESERVATION_SECONDS + 4 * self._longest
        until = min(now + TURN_SECONDS, self._terms.give_up_at)
        # A store of another author may have reservations of streams alone.
        options: _ReservationOptions = {"categories": categories} if categories else {}
        while (reserved := reservations.reserve(streams, lasts, **options)) is None:
            waited = self._port.now() - now
            if now + waited >= until:
                return
            await self._port.sleep(reserve_delay(waited, chance=random.random()))
            self._reservation = shared.join(self._contended, self._port.now())
            if self._reservation is not None:
                return
        self._reservation = SharedReservation(reserved, names, self._port.now())
        self._owns_reservation = True
        shared.share(self._reservation)

    def _end_sharing(self) -> None:
        """Stop sharing a reservation after a conflict.

        The commands that use a reservation make their next attempts without turns. A
        command that has published its state continues to use it, because it can build
        on the others. Any other command makes its next attempt in its turn; without
        turns, such commands would have conflicts with each other.
        """
        if self._reservation is None:
            return
        if self._owns_reservation:
            # Further commands would be in the way of its next attempt.
            self._reservation.is_open = False
        elif not self._has_published:
            self._leave_reservation()

    def _is_undisturbed(self) -> bool:
        """Return whether other writers wait for this command.

        It then takes no turn: the holder of a turn may be an append that waits for the
        end of this reservation, and both would wait until it expires.
        """
        reservation = self._reservation
        return reservation is not None and self._port.now() < reservation.expires_at

    def _leave_reservation(self) -> None:
        reservation, self._reservation = self._reservation, None
        self._owns_reservation = False
        if reservation is not None:
            self._queues.reservations.leave(reservation)

    async def _attempt(self, states: SharedStates | None) -> Executed:
        self._attempts += 1
        key, port, reading = self._terms.idempotency_key, self._port, self._reading
        if port.trace is not None:
            port.trace.begin_attempt(self._attempts)
        try:
            if key is not None:
                known = await self._known(key)
                if known is not None:
                    return known
            decision, expect = await self._decided(reading, states)
        except Exception:
            await port.checkpoint()
            raise
        self._decision = decision
        categories = reading.categories
        if not decision.encoded and not expect and not categories and key is None:
            await port.checkpoint()
            return self._checked_nothing()
        turns = self._turns
        link = reading.link(port, decision, key, turns.awaited() if turns else ())
        with link or nullcontext():
            self._has_published = link is not None and link.is_published
            if turns and self._has_published:
                # The next command can decide on the states of this one, and build its
                # append on this one.
                if self._reservation is not None and self._owns_reservation:
                    self._reservation.open(self._port.now())
                turns.pass_on()
            appended = await port.append(
                decision.encoded,
                expect=expect,
                idempotency_key=key,
                content=self._content,
                expect_categories=categories,
            )
            # If the append itself is interrupted, the store marks the exception. The
            # end of the block calls functions, in which a signal handler may raise.
            self._is_committed = True
        if turns:
            turns.note_versions(appended.versions)
        if appended.replayed:
            return await self._replayed(appended)
        await reading.keep(port, decision, appended)
        return self._done(decision, appended)

    async def _decided(
        self, reading: Reading, states: SharedStates | None
    ) -> tuple[Decision, Mapping[str, Expectation]]:
        """Return a decision on the streams, and what its append expects of them."""
        trace = self._port.trace
        while True:
            try:
                if trace is not None:
                    trace.enter("fold")
                await reading.read(self._port, self._check_reading, states)
                if trace is not None:
                    trace.enter("decide")
                decision = decided(
                    reading.owner,
                    _writes(reading),
                    reading.kinds,
                    self._terms.metadata,
                    self._terms.also,
                    self._refuse_late,
                    self._decoder.registry,
                )
                return decision, expectations(reading.versions, self._terms.expect)
            except Exception:
                # A rejection, a defect of the command, or a conflict with an
                # expectation of the caller, must not be reported if the states were
                # outdated or of different moments.
                if await reading.confirm(self._port):
                    raise

    async def _known(self, key: str) -> Executed | None:
        known = await self._port.committed(key, content=self._content)
        return None if known is None else await self._replayed(known)

    async def _known_after(self, unknown: OutcomeUnknown) -> Executed | None:
        if self._terms.idempotency_key is None:
            return None
        try:
            return await self._known(self._terms.idempotency_key)
        except EventbraidError as error:
            raise unknown from error

    def _checked_nothing(self) -> Executed:
        return Executed(
            events=(),
            versions={},
            first_position=None,
            last_position=None,
            read_position=self._reading.position,
            attempts=self._attempts,
            replayed=False,
        )

    def _done(self, decision: Decision, appended: Appended) -> Executed:
        return Executed(
            events=decision.events,
            versions=appended.versions,
            first_position=appended.first_position,
            last_position=appended.last_position,
            read_position=self._reading.position,
            attempts=self._attempts,
            replayed=False,
        )

    async def _replayed(self, known: Appended) -> Executed:
        first, last = known.first_position, known.last_position
        events: tuple[object, ...] = ()
        if first is not None and last is not None:
            # Read all events before the first is decoded. Otherwise a decoding error
            # would leave the read open.
            recorded = await self._port.read_commit(first, last)
            events = self._decoder.events(recorded)
        else:
            await self._port.checkpoint()
        return Executed(
            events=events,
            versions=known.versions,
            first_position=first,
            last_position=last,
            read_position=None,
            attempts=self._attempts,
            replayed=True,
        )

    def _raise_foreign(self, conflict: VersionConflict, own: Mapping[str, int]) -> None:
        """Raise a conflict that a further attempt can't resolve.

        This is a conflict on an expectation that the caller has added, or a conflict at
        another store that a function of the command raised.

        Args:
            conflict: The conflict.
            own: The versions of the streams that the attempt has read.
        """
        if is_raised_by_command(conflict):
            self._raise_doubt(conflict)
            raise conflict
        further = self._terms.expect or {}
        for failure in conflict.failures:
            wanted = further.get(failure.stream, StreamCondition.ANY)
            is_known = failure.stream in own or failure.stream in further
            if not is_known or not holds(wanted, failure.actual):
                self._raise_doubt(conflict)
                raise conflict
        for failing in conflict.categories:
            if failing.category not in self._reading.categories:
                self._raise_doubt(conflict)
                raise conflict
        # An expectation of the caller may hold: an append that builds on a refused one
        # is refused with all of its expectations.
        self._queue_for(one.stream for one in conflict.failures if one.stream in own)
        self._queue_for_categories(conflict)

    def _raise_final(self, unknown: OutcomeUnknown) -> None:
        """Raise the error of an unknown outcome if the outcome can't be determined.

        It can't be determined without an idempotency key, or if a function of the
        command raised the error of another store.
        """
        if self._terms.idempotency_key is None or is_raised_by_command(unknown):
            self._raise_doubt(unknown)
            raise unknown

    def _queue_for(self, streams: Iterable[str]) -> None:
        decision = self._decision
        written = (
            {event.stream for event in decision.encoded} if decision else set[str]()
        )
        self._contended.update({stream: stream in written for stream in streams})

    def _queue_for_categories(self, conflict: VersionConflict) -> None:
        """Queue for the categories whose streams have conflicted.

        A conflict on one stream of a discovered category counts, too. The next one may
        be on another of its streams, so a turn on the category is what the command
        needs.
        """
        failing = {one.category for one in conflict.categories}
        failing |= {category_of(one.stream) for one in conflict.failures}
        decision = self._decision
        written = (
            {category_of(event.stream) for event in decision.encoded}
            if decision
            else set[str]()
        )
        for category in failing & self._reading.categories.keys():
            self._contended[category_queue(category)] = category in written

    async def _wait_before_retry(self, error: VersionConflict | OutcomeUnknown) -> None:
        name = self._command.__shape__.name
        trace = self._port.trace
        if trace is not None:
            trace.note_error(error)
        COMMAND.debug("attempt %d of %s failed: %s", self._attempts, name, error)
        delay = 0.0 if self._is_undisturbed() else self._next_delay()
        resumed_at = self._port.now() + delay
        self._refuse_late(resumed_at)
        too_late = resumed_at >= self._terms.give_up_at
        if too_late or not self._retry.allows_another(self._attempts):
            COMMAND.warning(
                "%s failed in each of %d attempts: %s",
                name,
                self._attempts,
                error,
                exc_info=error,
            )
            self._raise_doubt(error)
            terms = self._terms
            seconds = round(terms.give_up_at - terms.begun_at, 3) if too_late else None
            raise RetriesExhausted(self._attempts, error, seconds) from error
        if trace is not None:
            trace.end_attempt(delay)
        self._reading.release()
        await self._port.sleep(delay)
        self._began = self._port.now()

    def _next_delay(self) -> float:
        """Return the delay before the next attempt, in seconds."""
        return self._retry.delay(self._attempts, chance=random.random())

    def _refuse_late(self, now: float | None = None) -> None:
        """Raise if the deadline has passed, so that no attempt begins after it."""
        deadline = self._terms.deadline
        if deadline is None or (now or self._port.now()) < deadline:
            return
        name, last = self._command.__shape__.name, self._last
        late = DeadlineExceeded(name, self._attempts, last)
        self._raise_doubt(late)
        raise late from last

    def _check_reading(self) -> None:
        """Raise if the deadline has passed; extend the turn of a long read."""
        self._refuse_late()
        if self._turns is not None:
            self._turns.extend()

    def _mark_doubt(self, interruption: BaseException) -> None:
        """Mark a cancellation or Ctrl-C if an attempt may have been committed."""
        is_interruption = not isinstance(interruption, Exception)
        if is_interruption and (self._doubt is not None or self._is_committed):
            interruption.__dict__["outcome_unknown"] = True

    def _raise_doubt(self, error: Exception) -> None:
        """Raise the unknown outcome of an earlier attempt, if there is one.

        That attempt may have been committed, so another error must not claim that the
        command had no effect.
        """
        if self._port.trace is not None:
            self._port.trace.note_error(error)
        if self._doubt is not None:
            raise self._doubt from (None if error is self._doubt else error)


def _writes(reading: Reading) -> Iterable[object]:
    try:
        return reading.decide()
    except Exception as error:
        mark_raised_by_command(error)
        raise
