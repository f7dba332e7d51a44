"""Starts, drives, resumes and compensates sagas."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
from anyio.lowlevel import checkpoint

from eventbraid.command import AsyncExecutor, RetryPolicy
from eventbraid.errors import (
    CoordinatorClosed,
    EventbraidError,
    GraphMismatch,
    InvalidArgument,
    InvalidTransition,
    LeaseLost,
    SagaBlocked,
    SagaExists,
    SagaNotFound,
    VersionConflict,
)
from eventbraid.lease._state import validate_stale_after
from eventbraid.saga._text import shown
from eventbraid.saga.coordination._attention_reporter import AttentionReporter
from eventbraid.saga.coordination._definition_registry import DefinitionRegistry
from eventbraid.saga.coordination._handle import SagaHandle
from eventbraid.saga.coordination._log_follower import LogFollower
from eventbraid.saga.coordination._saga_loader import SagaLoader
from eventbraid.saga.coordination._saga_registry import (
    SagaRegistry,
    SagaSummary,
    summary_of,
)
from eventbraid.saga.coordination._shards import Shards
from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
from eventbraid.saga.coordination._wakeup import Wakeup
from eventbraid.saga.coordination._worker_pool import WorkerPool
from eventbraid.saga.definition._declaration import declaration_of
from eventbraid.saga.machine._decider import decide_without_declaration
from eventbraid.saga.machine._events import ATTENTION_STREAM
from eventbraid.saga.machine._idempotency_keys import check_saga_id
from eventbraid.saga.machine._outcomes import (
    CancelRequest,
    RetryRequest,
    SkipRequest,
    Start,
)
from eventbraid.saga.machine._progress import Progress, Status
from eventbraid.saga.machine._state import SagaState
from eventbraid.saga.running._blocked_error import NEEDS_CODE
from eventbraid.saga.running._clock import SagaClock
from eventbraid.saga.running._journal import Journal
from eventbraid.saga.running._pace import TASKS_A_TURN, Pace
from eventbraid.saga.running._records import head_of, head_of_new_saga
from eventbraid.saga.running._run import Run
from eventbraid.saga.running._worker import current_worker
from eventbraid.store._duration import duration_seconds
from eventbraid.store._paging import checked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.running._clock import Clock
    from eventbraid.saga.running._observer import Observer
    from eventbraid.saga.running._permits import Permit
    from eventbraid.store import AsyncStore

S = TypeVar("S")

_ENDS_A_CHECKPOINT = 1_000
_COMMAND_RETRY = RetryPolicy()
_STALE_AFTER = timedelta(seconds=10)


class SagaCoordinator:
    """Starts sagas, drives them to their end, and resumes those that a crash left.

    Use it as an async context manager: entering it resumes the unfinished sagas of the
    store; leaving it lets each saga finish the move that it is making, and leaves the
    rest to the next coordinator. Nothing is lost either way: a saga's state is its
    stream. If the block raises or is cancelled, calls under way are cancelled too,
    except compensations, and resolved by the next coordinator.

    Any number of coordinators, of any number of processes, may share a store. The sagas
    are in 16 shards by their id. Each coordinator has its share of these, gives shards
    back when another one comes, takes those of one that goes or dies at once, and those
    of one that is stopped, or whose event loop hangs, after ``stale_after``. Whichever
    coordinator a saga is started, cancelled or retried at, one that was given its
    declaration drives it; the store refuses what a late one records.

    Coordinators needn't be given the same sagas, as while a new program is being rolled
    out: each announces what it was given, and drives nothing else. Where the holder of
    a shard lacks a declaration, another live coordinator that has it drives the sagas
    of that declaration. One that is given no sagas drives none; it can list and cancel.

    A saga that no live coordinator can drive is blocked: none has its declaration, or a
    bug makes it impossible. It is listed, and reported on the stream
    ``saga-attention``, so that `SagaHandle.result` raises `SagaBlocked` at every
    coordinator; other sagas go on. Its deadline doesn't compensate it while it is
    blocked: it is reported as overdue. If the store
    itself fails, the coordinator stops and raises its error.

    A defect in a step's code blocks its saga in this way and compensates nothing. The
    saga's stream holds the traceback (``saga.blocked``), and no attempt is spent. The
    same program doesn't make the defective call again: correct the code and start it
    anew, and the first coordinator with corrected code that drives the saga goes on at
    that step, under the same key. `cancel` compensates a blocked saga; if the defect
    is in ``then``, after the fix, because compensations are given the whole state.

    An `OSError` in a function of a step that calls no other system, such as a missing
    file in the command of a local step, spends no attempt either: the function is
    called again, and after ten such errors in a row the saga is blocked, listed and
    tried again from time to time, at most every ten minutes.

    A call that ends its process is made again by the next coordinator, after a growing
    pause, and after two crashes in a row alone: the others of that coordinator wait for
    it. If it ends the process then too, ``Retry.crashes`` times, its saga is stuck.

    The logger ``eventbraid.saga`` reports each failed attempt at WARNING, and each
    stuck or blocked saga at ERROR, with tracebacks. `KeyboardInterrupt` and
    `SystemExit` from a step end the coordinator: its block raises them, and each
    `SagaHandle.result` under way raises `CoordinatorClosed`. Any other exception, and a
    cancellation of a saga's own task, only ends the attempt.

    An action or a compensation may start other sagas, and may wait for their results.
    A saga that it starts is recorded at once and takes its place later; while it waits
    for a result it doesn't count as being at work. Its own timeout goes on meanwhile.

    Args:
        store: The store; it stays open.
        sagas: The declarations of the sagas that it may start and drive; none for a
            program that only lists and cancels.
        concurrency: How many sagas this coordinator works on at a time. Those that
            wait for their next attempt don't count. `start` waits for a place if the
            saga is in one of its own shards; those that were started elsewhere, or left
            by another one, wait for one here, in any number.
        command_retry: How commands of local steps are tried again after conflicts.
        stale_after: From how much silence on another coordinator counts as stopped, at
            least 1 s. Let it be the same for all.
        ends_a_checkpoint: The number of ended sagas after which the set of unfinished
            ones is recorded, so that a resume reads only the log after it. However many
            end, that is done 12 times at once and then once a minute.
        on_event: Called with each recorded transition, on the event loop, after its
            commit. It must be quick; if it raises, the coordinator stops.

    Raises:
        CoordinatorClosed: On entering: it was entered before.
        GraphMismatch: On entering: an unfinished saga, whichever coordinator drives it,
            was started with other steps under the same version.
        InvalidArgument: Two sagas have one name and version, or a number is below 1.

    Example:
        >>> import anyio
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> async def greet(context: eb.StepContext[str]) -> str:
        ...     return f"hello {context.state}"
        >>> saga = eb.Saga(
        ...     "doc-greeting",
        ...     str,
        ...     steps=[
        ...         eb.step(
        ...             "greet",
        ...             greet,
        ...             timeout=timedelta(seconds=1),
        ...             then=lambda state, result: result,
        ...         ).without_compensation()
        ...     ],
        ... )
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         async with eb.SagaCoordinator(store, [saga]) as coordinator:
        ...             handle = await coordinator.start(saga, "mia", id="saga-1")
        ...             print((await handle.result()).outcome)
        >>> anyio.run(main)
        Outcome.COMPLETED
    """

    def __init__(
        self,
        store: AsyncStore,
        sagas: Sequence[Saga[Any]],
        /,
        *,
        concurrency: int = 256,
        command_retry: RetryPolicy = _COMMAND_RETRY,
        stale_after: timedelta = _STALE_AFTER,
        ends_a_checkpoint: int = _ENDS_A_CHECKPOINT,
        on_event: Observer | None = None,
    ) -> None:
        """Prepare to coordinate; nothing happens before it is entered."""
        concurrency = checked("concurrency", concurrency, minimum=1)
        ends = checked("ends_a_checkpoint", ends_a_checkpoint, minimum=1)
        self._store = store
        executor = AsyncExecutor(store, retry=command_retry)
        self._journal = Journal(store, executor, on_event)
        self._definitions = DefinitionRegistry(sagas)
        self._wakeup = Wakeup()
        self._registry = SagaRegistry(self._wakeup)
        self._open = UnfinishedSagas(store)
        self._waiting_starts: dict[str, anyio.CancelScope] = {}
        self._shards = Shards(
            store,
            validate_stale_after(duration_seconds("stale_after", stale_after)),
            self._definitions.declarations(),
        )
        self._loader = SagaLoader(
            self._journal, self._definitions, self._registry, self._open, self._shards
        )
        self._workers = WorkerPool(
            self._journal,
            self._registry,
            self._open,
            self._wakeup,
            concurrency=concurrency,
            ends_a_checkpoint=ends,
        )
        self._follower = LogFollower(
            self._journal,
            self._loader,
            self._registry,
            self._open,
            self._shards,
            AttentionReporter(store, self._shards),
            self._workers,
            self._wakeup,
        )

    async def __aenter__(self) -> Self:
        """Resume the unfinished sagas."""
        if self._workers.begun:
            raise CoordinatorClosed("a coordinator is entered once; make another one")
        try:
            unfinished = await self._follower.begin()
            await self._workers.begin(self._follower.run)
        except BaseException as error:
            await self._let_go(error)
            raise
        try:
            pace = Pace(TASKS_A_TURN)
            for run in unfinished:
                self._follower.take_in(run)
                await pace.keep()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Let each saga finish its move, and leave the rest to the next coordinator."""
        try:
            is_ours = await self._workers.end(kind, error, traceback)
        except BaseException as failure:
            await self._let_go(failure)
            raise
        await self._let_go(error)
        if error is None:
            await self._open.save()
        return is_ours

    async def start(self, saga: Saga[S], state: S, /, *, id: str) -> SagaHandle[S]:  # noqa: A002 - the design's name
        """Start a saga, durably, unless it was started before.

        If the saga is in one of this coordinator's shards, waits while ``concurrency``
        sagas are at work. If it is in another's, or is started by a step of another
        saga, the start is only recorded, without waiting, and the saga itself waits for
        a place.

        Args:
            saga: The declaration; one of those that the coordinator was given.
            state: The initial state. It is copied: the saga works on what is recorded.
            id: The saga's id, which is its stream: ``"saga-0198..."``. Starting it
                again with the same state answers the same saga, ended or not.

        Returns:
            A handle, to wait for the result.

        Raises:
            SagaExists: The id is taken by a saga with another state, or by something
                else.
            InvalidArgument: The id can't be a saga's, or the saga wasn't given.
            InvalidValue: The state isn't of the declared type, or would be read back
                as another one.
            CoordinatorClosed: The coordinator isn't running.
        """
        self._require_startable()
        if not self._definitions.has(saga):
            raise InvalidArgument(
                "saga", repr(saga), "it isn't among those given to the coordinator"
            )
        _check_id(saga, id)
        while True:
            self._require_startable()
            known = self._registry.is_held(id)
            run = None if known else await self._begin(saga, id, state)
            if run is not None:
                return SagaHandle(run, self._follower.catch_up)
            try:
                return await self._existing(saga, id, state)
            except SagaExists:
                # Who was starting it may have been cancelled before its commit.
                if await self._journal.reader.exists(id):
                    raise

    async def get(self, saga: Saga[S], saga_id: str, /) -> SagaHandle[S]:
        """Give the handle of a saga that was started before.

        Args:
            saga: Its declaration.
            saga_id: Its id.

        Returns:
            A handle. The saga is driven if it is unfinished.

        Raises:
            SagaNotFound: No saga of this declaration was started under the id.
            SagaBlocked: This program can't drive it.
            GraphMismatch: It was started with other steps under the same version.
            CoordinatorClosed: The coordinator isn't running.
        """
        self._workers.require_running()
        run = await self._load(saga_id)
        if run.saga is not saga:
            raise SagaNotFound(saga_id)
        return SagaHandle(run, self._follower.catch_up)

    async def list(self) -> Sequence[SagaSummary]:
        """List the unfinished sagas: at work, stuck or blocked.

        Those of other coordinators are read from the store. Of them, those are listed
        as blocked that no live coordinator can run; whether a defect blocks one there
        isn't known here.
        """
        await checkpoint()
        return [*await self._registry.summaries(), *await self._of_others()]

    async def stuck(self) -> Sequence[SagaSummary]:
        """List the sagas that wait for a person, each with its step and the reason."""
        return [
            summary
            for summary in await self.list()
            if summary.status is Status.STUCK and not summary.parked
        ]

    async def parked(self) -> Sequence[SagaSummary]:
        """List the sagas that can't be driven, each with what is missing.

        They are those of this coordinator's shards, and all that no live coordinator
        can run. A blocked saga is not compensated by its deadline: it is ``overdue``.
        """
        await checkpoint()
        here = await self._registry.blocked_summaries()
        return [*here, *await self._of_others(only_blocked=True)]

    async def cancel(self, saga_id: str, /, *, reason: str) -> None:
        """Compensate a saga on request, also one whose declaration wasn't given.

        A call that is under way is waited for, and its late answer only tells what is
        to be compensated.

        Args:
            saga_id: The saga's id.
            reason: Why, for people; recorded.

        Raises:
            SagaNotFound: No saga was started under the id.
            InvalidTransition: It has ended, or has passed its point of no return.
            SagaBlocked: Its records can't be read.
        """
        self._workers.require_running()
        request = CancelRequest(reason)
        try:
            run = await self._load(saga_id)
        except (SagaBlocked, GraphMismatch):
            # Another coordinator compensates it, which finds the record in the log.
            await self._record(saga_id, request)
            return
        # A copy, because the saga's own task may be in the middle of a move.
        copy = run.copy()
        await self._commit_decision(copy, request)
        run.wake()
        self._workers.work_again(run)
        await self._follower.catch_up(run)

    async def retry(self, saga_id: str, /, *, by: str, note: str) -> None:
        """Let a stuck saga try its step, or its compensation, again.

        Its declaration needn't have been given.

        Args:
            saga_id: The saga's id.
            by: Who decided it; recorded.
            note: Why; recorded.

        Raises:
            SagaNotFound: No saga was started under the id.
            InvalidTransition: It isn't stuck.
            SagaBlocked: Its records can't be read.
        """
        _require_who_and_why(by, note)
        request = RetryRequest(by, note)
        try:
            await self._by_hand(saga_id, request)
        except (SagaBlocked, GraphMismatch):
            await self._record(saga_id, request)

    async def skip(self, saga_id: str, step: str, /, *, by: str, note: str) -> None:
        """Take the step at which a saga is stuck as settled, and let it go on.

        Args:
            saga_id: The saga's id.
            step: The step; named so that nobody skips another one by mistake.
            by: Who decided it; recorded.
            note: Why, and what was done instead; recorded.

        Raises:
            SagaNotFound: No saga was started under the id.
            InvalidTransition: It isn't stuck, or is stuck at another step.
            SagaBlocked: This program can't drive it.
        """
        _require_who_and_why(by, note)
        await self._by_hand(saga_id, SkipRequest(step, by, note))

    # --- within ----------------------------------------------------------------------

    def _require_startable(self) -> None:
        """Refuse a start that this coordinator can't record.

        A step that ends its move while the coordinator is left may still start a saga,
        which the next coordinator drives: refused, it would count as a failed attempt.
        """
        if not self._workers.is_working(current_worker()):
            self._workers.require_running()

    async def _of_others(self, *, only_blocked: bool = False) -> Sequence[SagaSummary]:
        found: list[SagaSummary] = []
        await self._open.catch_up()
        await self._shards.look()
        pace = Pace()
        for saga_id, needed in [*self._open.sagas.items()]:
            await pace.keep()
            is_foreign = needed is not None and not self._shards.can_be_run(needed)
            if self._registry.knows(saga_id) or (only_blocked and not is_foreign):
                continue
            try:
                summary = summary_of(await self._loader.progress(saga_id))
            except SagaBlocked as error:
                summary = summary_of(Progress(saga_id, stuck_for=error.reason))
            except SagaNotFound:
                # The log knows a start of it, so nothing but a race ends here.
                continue
            if is_foreign:
                reason = f"{NEEDS_CODE}: no live coordinator has its declaration"
                summary = replace(summary, failure=reason, parked=True)
            if not summary.status.ended:
                found.append(summary)
        return found

    async def _let_go(self, error: BaseException | None) -> None:
        """Give the shards back; that this failed is only noted if there is an error."""
        try:
            with anyio.CancelScope(shield=True):
                await self._shards.close()
        except EventbraidError as failure:
            if error is None:
                raise
            error.add_note(f"what it coordinated was not let go: {failure}")

    async def _begin(self, saga: Saga[S], saga_id: str, state: S) -> Run[S] | None:
        """Record a start and have the saga driven; None if the id is taken."""
        self._registry.begin_start(saga_id)
        try:
            is_here = self._shards.lease_for(saga_id, declaration_of(saga)) is not None
            # A step that waited for a place would hold the one that it waits for.
            if is_here and current_worker() is None:
                return await self._start_here(saga, saga_id, state)
            return await self._start_elsewhere(saga, saga_id, state)
        except VersionConflict:
            return None
        except BaseException:
            # Should it be recorded all the same, the follower finds it in the log.
            self._wakeup.notify()
            raise
        finally:
            self._registry.end_start(saga_id)

    async def _start_here(self, saga: Saga[S], saga_id: str, state: S) -> Run[S]:
        run, start = _new_run(saga, saga_id, state, self._journal.reader.clock)
        with self._workers.permit() as permit:
            await self._wait_for_permit(run, permit)
            self._workers.require_running()
            run.assign(self._shards.lease_for(saga_id, declaration_of(saga)))
            if run.shard_lease is not None and permit.is_held:
                try:
                    await self._journal.commit(run, *run.decide(start))
                except LeaseLost:
                    self._wakeup.notify()
                else:
                    self._workers.work_on(run, resumed=False, permit=permit.pass_on())
                    return run
        return await self._start_elsewhere(saga, saga_id, state)

    async def _wait_for_permit(self, run: Run[Any], permit: Permit) -> None:
        """Wait for a permit, or until a step of a saga at work needs the start."""
        if permit.acquire_nowait():
            return
        with anyio.CancelScope() as scope:
            self._waiting_starts[run.id] = scope
            try:
                await permit.acquire()
            finally:
                del self._waiting_starts[run.id]

    async def _start_elsewhere(self, saga: Saga[S], saga_id: str, state: S) -> Run[S]:
        """Record a start, and leave the first step to a task that takes its place."""
        run, start = _new_run(saga, saga_id, state, self._journal.reader.clock)
        alone = Start(start.deadline, proceeds=False)
        self._registry.hold_elsewhere(run)
        try:
            await self._journal.commit(run, *run.decide(alone))
        except BaseException:
            self._registry.elsewhere.pop(saga_id, None)
            raise
        taken_in = self._follower.take_in(run)
        await self._follower.catch_up(taken_in)
        return cast("Run[S]", taken_in)

    async def _load(self, saga_id: str) -> Run[Any]:
        """Find a saga, or read it and drive it if it is unfinished."""
        text = cast("object", saga_id)
        if not isinstance(text, str):
            raise InvalidArgument("saga id", shown(text), "it must be text")
        waiting = self._waiting_starts.get(saga_id)
        if waiting is not None and current_worker() is not None:
            waiting.cancel()
        while saga_id in self._registry.starting:
            # Its start is being recorded here, by whom it will be driven.
            await self._registry.starting[saga_id].wait()
        run = self._registry.find(saga_id) or self._registry.elsewhere.get(saga_id)
        if run is None or saga_id in self._registry.blocked:
            run = self._follower.take_in(await self._loader.load(saga_id))
            self._follower.ask(run)
        else:
            await checkpoint()
        await self._follower.catch_up(run)
        return run

    async def _existing(self, saga: Saga[S], saga_id: str, state: S) -> SagaHandle[S]:
        """Answer the saga that holds the id, if it was started with the same state."""
        try:
            run = await self._load(saga_id)
        except SagaNotFound:
            raise SagaExists(saga_id, "the stream holds something else") from None
        if run.saga.name != saga.name:
            raise SagaExists(saga_id, f"it is a saga {run.saga.name!r}")
        if not saga.state_codec.matches(state, run.progress.input):
            raise SagaExists(saga_id, "it was started with another state")
        return SagaHandle(cast("Run[S]", run), self._follower.catch_up)

    async def _by_hand(self, saga_id: str, request: RetryRequest | SkipRequest) -> None:
        """Record a person's decision, and drive the saga further."""
        self._workers.require_running()
        run = await self._load(saga_id)
        # A copy: somebody else's decision may have put the saga to work meanwhile. If
        # the answer is lost, the follower finds the decision in the log.
        await self._commit_decision(run.copy(), request)
        self._workers.work_again(run)
        await self._follower.catch_up(run)

    async def _record(
        self, saga_id: str, request: CancelRequest | RetryRequest
    ) -> None:
        """Record a decision about a saga that this program can't drive."""
        while True:
            recorded = await self._journal.reader.read(saga_id)
            progress = self._journal.reader.progress(saga_id, recorded)
            events, reached = decide_without_declaration(progress, request)
            with suppress(VersionConflict):
                await self._journal.record(reached, head_of(recorded), events)
                return

    async def _commit_decision(
        self, run: Run[Any], request: CancelRequest | RetryRequest | SkipRequest
    ) -> None:
        """Record a decision on a request; decide again if another writer was first."""
        while True:
            try:
                await self._journal.commit(run, *run.decide(request))
            except VersionConflict:
                await self._journal.reload(run)
            except InvalidTransition:
                # The saga's own task, or another coordinator, may be ahead of it.
                if await self._journal.reader.is_current(run):
                    raise
                await self._journal.reload(run)
            else:
                return


def _new_run(
    saga: Saga[S], saga_id: str, state: S, clock: Clock
) -> tuple[Run[S], Start]:
    """Return a run without records, and the request by which it is started."""
    initial = saga.state_codec.record(state)
    saga_clock = SagaClock(clock, is_new=True)
    now = saga_clock.now()
    deadline = None if saga.deadline is None else now + saga.deadline
    worker = current_worker()
    head = head_of_new_saga(saga_id, None if worker is None else worker.last_record)
    nothing = SagaState(Progress(saga_id), initial)
    return Run(saga, nothing, head, saga_clock), Start(deadline)


def _check_id(saga: Saga[Any], saga_id: str) -> None:
    if saga_id == ATTENTION_STREAM:
        raise InvalidArgument("saga id", saga_id, "this stream is the library's own")
    check_saga_id(saga, saga_id)


def _require_who_and_why(by: str, note: str) -> None:
    if not by or not note:
        raise InvalidArgument("by and note", f"{by!r}, {note!r}", "say who and why")
