"""Starts, drives, resumes and compensates sagas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio

from eventbraid.command import AsyncExecutor, RetryPolicy
from eventbraid.errors import (
    CoordinatorClosed,
    InvalidArgument,
    InvalidTransition,
    OutcomeUnknown,
    SagaExists,
    SagaNotFound,
    SagaParked,
    VersionConflict,
)
from eventbraid.saga._archive import Archive
from eventbraid.saga._checkpoint import OpenSagas
from eventbraid.saga._claim import claim, release
from eventbraid.saga._crew import Crew
from eventbraid.saga._event import ATTENTION_STREAM, SagaStarted
from eventbraid.saga._follow import cancelled, retried_by_hand, skipped_by_hand
from eventbraid.saga._handle import Run, SagaHandle
from eventbraid.saga._journal import Journal
from eventbraid.saga._keys import check_saga_id
from eventbraid.saga._library import Library
from eventbraid.saga._plan import advance
from eventbraid.saga._progress import Progress, Status
from eventbraid.saga._roster import Roster, SagaSummary
from eventbraid.saga._transition import evolve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from eventbraid.saga._definition import Saga
    from eventbraid.saga._event import SagaEvent
    from eventbraid.saga._journal import Observer
    from eventbraid.store import AsyncEventStore

S = TypeVar("S")

_ENDS_A_CHECKPOINT = 1_000
_COMMAND_RETRY = RetryPolicy()


class SagaCoordinator:
    """Starts sagas, drives them to their end, and resumes those that a crash left.

    Use it as an async context manager: entering it resumes the unfinished sagas of the
    store; leaving it lets each saga finish the move that it is making, and leaves the
    rest to the next coordinator. Nothing is lost either way: a saga's state is its
    stream. If the block raises or is cancelled, calls under way are cancelled too,
    except compensations, and resolved by the next coordinator.

    One saga that a bug makes impossible to drive is parked and listed, and the others
    go on. If the store itself fails, the coordinator stops and raises its error.

    An action may start other sagas, but shouldn't wait for their results: it holds one
    of the ``concurrency`` places while it does.

    Args:
        store: The store; it stays open.
        sagas: The declarations of all sagas that it may start or find unfinished.
        concurrency: How many sagas may be at work at a time. Those that wait for their
            next attempt don't count.
        command_retry: How commands of local steps are tried again after conflicts.
        ends_a_checkpoint: After how many ended sagas the set of unfinished ones is
            written down, so that a resume reads only what came after.
        on_event: Is told each recorded transition, on the event loop, after its
            commit. It must be quick; if it raises, the coordinator stops.

    Raises:
        CoordinatorClosed: On entering: another coordinator runs on the store, or this
            one was entered before.
        GraphMismatch: On entering: an unfinished saga was started with other steps
            under the same version.
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
        ...             print(await handle.result())
        >>> anyio.run(main)
        Ended(outcome=<Outcome.COMPLETED: 'completed'>, state='hello mia', failure=None)
    """

    def __init__(
        self,
        store: AsyncEventStore,
        sagas: Sequence[Saga[Any]],
        /,
        *,
        concurrency: int = 256,
        command_retry: RetryPolicy = _COMMAND_RETRY,
        ends_a_checkpoint: int = _ENDS_A_CHECKPOINT,
        on_event: Observer | None = None,
    ) -> None:
        """Prepare to coordinate; nothing happens before it is entered."""
        _require_one("concurrency", concurrency)
        _require_one("ends_a_checkpoint", ends_a_checkpoint)
        self._store = store
        executor = AsyncExecutor(store, retry=command_retry)
        self._journal = Journal(store, executor, on_event)
        self._library = Library(sagas)
        self._roster = Roster()
        self._archive = Archive(self._journal, self._library, self._roster)
        self._open = OpenSagas(store)
        self._starting: dict[str, anyio.Event] = {}
        self._crew = Crew(
            self._journal,
            self._roster,
            self._open,
            concurrency=concurrency,
            ends_a_checkpoint=ends_a_checkpoint,
        )

    async def __aenter__(self) -> Self:
        """Resume the unfinished sagas."""
        if self._crew.begun:
            raise CoordinatorClosed("a coordinator is entered once; make another one")
        claim(self._store, self)
        try:
            await self._open.load()
            unfinished = await self._archive.load_all(sorted(self._open.ids))
            await self._crew.begin()
        except BaseException:
            release(self._store, self)
            raise
        for run in unfinished:
            self._take_in(run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Let each saga finish its move, and leave the rest to the next coordinator."""
        try:
            is_ours = await self._crew.end(kind, error, traceback)
            if error is None:
                await self._open.save()
        finally:
            release(self._store, self)
        return is_ours

    async def start(self, saga: Saga[S], state: S, /, *, id: str) -> SagaHandle[S]:  # noqa: A002 - the design's name
        """Start a saga, durably, unless it was started before.

        Waits while ``concurrency`` sagas are at work.

        Args:
            saga: The declaration; one of those that the coordinator was given.
            state: The initial state.
            id: The saga's id, which is its stream: ``"saga-0198..."``. Starting it
                again with the same state answers the same saga, ended or not.

        Returns:
            A handle, to wait for the result.

        Raises:
            SagaExists: The id is taken by a saga with another state, or by something
                else.
            InvalidArgument: The id can't be a saga's, or the saga wasn't given.
            InvalidValue: The state isn't of the declared type.
            CoordinatorClosed: The coordinator isn't running.
        """
        self._crew.require_running()
        if not self._library.has(saga):
            raise InvalidArgument(
                "saga", repr(saga), "it isn't among those given to the coordinator"
            )
        _check_id(saga, id)
        while True:
            self._crew.require_running()
            run, events = _first_records(saga, id, state)
            known = id in self._starting or self._roster.find(id) is not None
            if not known and await self._start(run, events):
                return SagaHandle(run)
            try:
                return await self._existing(saga, id, state)
            except SagaExists:
                # Who was starting it may have been cancelled before its commit.
                if await self._journal.exists(id):
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
            SagaParked: This program can't drive it.
            CoordinatorClosed: The coordinator isn't running.
        """
        self._crew.require_running()
        run = await self._load(saga_id)
        if run.saga is not saga:
            raise SagaNotFound(saga_id)
        return SagaHandle(run)

    async def list(self) -> Sequence[SagaSummary]:
        """List the unfinished sagas of this coordinator: at work, stuck or parked."""
        return self._roster.summaries()

    async def stuck(self) -> Sequence[SagaSummary]:
        """List the sagas that wait for a person, each with its step and the reason."""
        return [
            summary
            for summary in self._roster.summaries()
            if summary.status is Status.STUCK and not summary.parked
        ]

    async def parked(self) -> Sequence[SagaSummary]:
        """List the sagas that this program can't drive, each with what is missing."""
        return [summary for summary in self._roster.summaries() if summary.parked]

    async def cancel(self, saga_id: str, /, *, reason: str) -> None:
        """Undo a saga on request.

        A call that is under way is waited for, and its late answer only tells what is
        to be undone.

        Args:
            saga_id: The saga's id.
            reason: Why, for people; recorded.

        Raises:
            SagaNotFound: No saga was started under the id.
            InvalidTransition: It has ended, or has passed its point of no return.
            SagaParked: This program can't drive it.
        """
        self._crew.require_running()
        run = await self._load(saga_id)
        # A copy, because the saga's own task may be in the middle of a move.
        copy = Run(run.saga, run.progress, run.state, run.version)
        await self._commit_anew(copy, lambda run: cancelled(run.progress, reason))
        run.wake(stale=True)

    async def retry(self, saga_id: str, /, *, by: str, note: str) -> None:
        """Let a stuck saga try its step, or its compensation, again.

        Args:
            saga_id: The saga's id.
            by: Who decided it; recorded.
            note: Why; recorded.

        Raises:
            SagaNotFound: No saga was started under the id.
            InvalidTransition: It isn't stuck.
        """
        _require_who_and_why(by, note)
        await self._by_hand(
            saga_id, lambda run: retried_by_hand(run.progress, by, note)
        )

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
        """
        _require_who_and_why(by, note)
        await self._by_hand(
            saga_id,
            lambda run: skipped_by_hand(
                run.saga, run.progress, run.state, step, by, note, datetime.now(UTC)
            ),
        )

    # --- within ----------------------------------------------------------------------

    async def _start(self, run: Run[S], events: Sequence[SagaEvent]) -> bool:
        """Record a start and drive the saga, or tell that the id is taken."""
        done = self._starting[run.id] = anyio.Event()
        try:
            await self._crew.take_place(run)
            self._crew.require_running()
            await self._journal.commit(run, events, run.state)
            self._crew.work_on(run, resumed=False)
        except VersionConflict:
            self._crew.give_place(run)
            return False
        except BaseException as error:
            self._crew.give_place(run)
            self._adopt_if_begun(run.id, error)
            raise
        finally:
            del self._starting[run.id]
            done.set()
        return True

    async def _load(self, saga_id: str) -> Run[Any]:
        """Find a saga, or read it and drive it if it is unfinished."""
        while saga_id in self._starting:
            # Its start is being recorded here, by whom it will be driven.
            await self._starting[saga_id].wait()
        run = self._roster.find(saga_id)
        if run is not None:
            return run
        run = await self._archive.load(saga_id)
        known = self._roster.find(saga_id)
        return self._take_in(run) if known is None else known

    def _take_in(self, run: Run[Any]) -> Run[Any]:
        """Drive a saga that was read back, unless it rests."""
        status = run.progress.status
        if status is Status.STUCK:
            self._roster.stuck[run.id] = run
        if status.ended or status is Status.STUCK:
            run.rest()
        else:
            self._crew.work_on(run, resumed=True)
        return run

    async def _existing(self, saga: Saga[S], saga_id: str, state: S) -> SagaHandle[S]:
        """Answer the saga that holds the id, if it was started with the same state."""
        try:
            run = await self._load(saga_id)
        except SagaNotFound:
            raise SagaExists(saga_id, "the stream holds something else") from None
        if run.saga.name != saga.name:
            raise SagaExists(saga_id, f"it is a saga {run.saga.name!r}")
        if run.saga.state_codec.decode(run.progress.input) != state:
            raise SagaExists(saga_id, "it was started with another state")
        return SagaHandle(cast("Run[S]", run))

    async def _by_hand(
        self, saga_id: str, plan: Callable[[Run[Any]], Sequence[SagaEvent]]
    ) -> None:
        """Record what a person decided, and drive the saga on."""
        self._crew.require_running()
        run = await self._load(saga_id)
        # A copy: somebody else's decision may have put the saga to work meanwhile.
        mine = Run(run.saga, run.progress, run.state, run.version)
        try:
            await self._commit_anew(mine, plan)
        except BaseException as error:
            is_raced = isinstance(error, InvalidTransition)
            if (is_raced or _has_begun(error)) and self._crew.running:
                self._crew.do(self._take_up, saga_id)
            raise
        self._drive_again(run)

    def _drive_again(self, run: Run[Any]) -> None:
        """Put a saga that was stuck back to work, from what its stream says."""
        if self._roster.stuck.get(run.id) is run:
            run.at_rest = anyio.Event()
            run.stale = True
            self._crew.work_on(run, resumed=False)

    async def _take_up(self, saga_id: str) -> None:
        """Drive a stuck saga after all, if the decision got into its stream."""
        run = self._roster.stuck.get(saga_id)
        if run is None:
            return
        # Waits for the append that is under way.
        await self._journal.exists(saga_id)
        fresh = Run(run.saga, run.progress, run.state, run.version)
        await self._journal.reload(fresh)
        if fresh.progress.status is not Status.STUCK:
            self._drive_again(run)

    async def _commit_anew(
        self, run: Run[Any], plan: Callable[[Run[Any]], Sequence[SagaEvent]]
    ) -> None:
        """Record what a plan says, planned again if others wrote to the stream."""
        while True:
            try:
                await self._journal.commit(run, plan(run), run.state)
            except VersionConflict:
                await self._journal.reload(run)
            else:
                return

    def _adopt_if_begun(self, saga_id: str, error: BaseException) -> None:
        """Drive a saga whose start was interrupted when its commit had begun."""
        if _has_begun(error) and self._crew.running:
            self._crew.do(self._adopt, saga_id)

    async def _adopt(self, saga_id: str) -> None:
        try:
            if await self._journal.exists(saga_id):
                await self._load(saga_id)
        except (SagaNotFound, SagaExists):
            return  # The stream is somebody else's.
        except SagaParked:
            return  # It is listed.


def _has_begun(error: BaseException) -> bool:
    """Whether the commit that an error cut off may be in the log."""
    return bool(getattr(error, "outcome_unknown", isinstance(error, OutcomeUnknown)))


def _first_records(
    saga: Saga[S], saga_id: str, state: S
) -> tuple[Run[S], tuple[SagaEvent, ...]]:
    now = datetime.now(UTC)
    deadline = None if saga.deadline is None else now + saga.deadline
    started = SagaStarted(
        saga.name,
        saga.version,
        saga.graph_hash,
        saga.graph,
        saga.state_codec.encode(state),
        deadline,
    )
    nothing = Progress(saga_id)
    follow = advance(saga, evolve(nothing, started), state, now)
    return Run(saga, nothing, state, 0), (started, *follow)


def _check_id(saga: Saga[Any], saga_id: str) -> None:
    if saga_id == ATTENTION_STREAM:
        raise InvalidArgument("saga id", saga_id, "this stream is the library's own")
    check_saga_id(saga, saga_id)


def _require_who_and_why(by: str, note: str) -> None:
    if not by or not note:
        raise InvalidArgument("by and note", f"{by!r}, {note!r}", "say who and why")


def _require_one(what: str, number: int) -> None:
    if number < 1:
        raise InvalidArgument(what, str(number), "it must be at least 1")
