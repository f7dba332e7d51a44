"""The public interface of saga coordination: each method calls one internal part."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from eventbraid.command import AsyncExecutor, RetryPolicy
from eventbraid.errors import SagaNotFound
from eventbraid.lease._liveness import STALE_AFTER, validate_stale_after
from eventbraid.saga.coordination._assembly import assemble
from eventbraid.saga.coordination._handle import SagaHandle
from eventbraid.saga.machine._outcomes import SignalRequest
from eventbraid.saga.running._journal import Journal
from eventbraid.store._duration import duration_seconds
from eventbraid.store._paging import checked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from eventbraid.command import ExecutionHooks
    from eventbraid.event import EventRegistry
    from eventbraid.saga.coordination._saga_summary import SagaSummary
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.definition._wait import Signal
    from eventbraid.saga.running._observer import Observer
    from eventbraid.store import AsyncStore

S = TypeVar("S")
P = TypeVar("P")

_ENDS_A_CHECKPOINT = 1_000
_COMMAND_RETRY = RetryPolicy()
_COMMAND_RETRY_TIMEOUT = timedelta(seconds=30)


class SagaCoordinator:
    """Starts sagas, drives them to their end, and resumes them after a crash.

    Use the coordinator as an async context manager. At the beginning of the block, it
    resumes the unfinished sagas of the store. At the end of the block, each saga ends
    its current action, and the next coordinator continues the sagas. Nothing is lost,
    because a saga's state is its stream. If the block raises or is cancelled, calls in
    progress are cancelled too, except compensations. The next coordinator asks the
    receivers for the outcomes of the cancelled calls, or makes the calls again.

    Any number of coordinators, of any number of processes, may share a store. The id of
    a saga determines in which of 16 shards the saga is. Each coordinator has its share
    of the shards, and gives shards back when another coordinator joins. If a
    coordinator has ended or died, the others acquire its shards at once. If a
    coordinator is suspended, or its event loop hangs, the others acquire its shards
    after ``stale_after``. A saga may be started, cancelled or retried at any
    coordinator. The saga is driven by a coordinator that has its shard and was given
    its declaration. If that coordinator loses the shard, the store refuses its records.

    Coordinators needn't be given the same sagas, for example while a new version of a
    program is rolled out. Each coordinator records the declarations that it was given,
    and drives no other sagas. If the holder of a shard lacks a declaration, another
    live coordinator that has the declaration drives the sagas of that declaration. A
    coordinator that is given no declarations drives no sagas, but can list and cancel
    them.

    A saga is *blocked* if no live coordinator can drive it, because none has its
    declaration, or because of a bug. `blocked` lists such a saga, and a notice on the
    stream ``saga-attention`` reports it. At every coordinator, `SagaHandle.result` then
    raises `SagaBlocked`. Other sagas continue. The deadline of a blocked saga doesn't
    compensate it; the saga is reported as overdue. If the store itself fails, the
    coordinator stops and raises the store's error.

    A defect in a step's code blocks its saga in this way and compensates nothing. The
    record ``saga.blocked`` in the saga's stream has the traceback. The defect doesn't
    count as an attempt, and the same program doesn't make the defective call again.
    Correct the code and start the program again: the first coordinator with corrected
    code that drives the saga continues at that step, with the same idempotency key.
    `cancel` compensates a blocked saga. If the defect is in ``then``, the compensation
    begins only after the correction, because compensations receive the whole state.

    Functions of a step that call no other system, such as the command of a local step,
    may raise an `OSError`, for example for a missing file. Such an error doesn't count
    as an attempt either, and the function is called again. After ten such errors in a
    row the saga is blocked. The function is then called again at intervals of at most
    ten minutes.

    A saga is *stuck* if a compensation, or a step past the pivot, has failed for good.
    A stuck saga has not ended: it waits until a person calls `retry` or `skip`.

    If the process ends during a call, the next coordinator makes the call again, after
    a delay that grows with each crash. After two crashes in a row the call is made
    alone: the other calls of that process wait. If the process ends ``maximum_crashes``
    times while the call is made alone, the saga is stuck.

    The logger ``eventbraid.saga`` reports each failed attempt at WARNING, and each
    stuck or blocked saga at ERROR, with tracebacks. `KeyboardInterrupt` and
    `SystemExit` from a step end the coordinator: the coordinator's block raises them,
    and each `SagaHandle.result` in progress raises `CoordinatorClosed`. Any other
    exception ends only the attempt, as does a cancellation of a saga's own task.

    An action or a compensation may start other sagas, and may wait for their results.
    Such a start is recorded at once, even while ``concurrency`` sagas are worked on;
    the new saga itself may have to wait. A step that waits for another saga's result
    isn't counted for ``concurrency``, but its own timeout keeps running.

    Args:
        store: The store; it stays open.
        sagas: The declarations of the sagas that it may start and drive; none for a
            program that only lists and cancels sagas.
        concurrency: The maximum number of sagas that this coordinator works on at a
            time. Sagas that wait for their next attempt don't count. `start` waits if
            that number is reached and the saga is in one of this coordinator's shards.
            Any number of sagas that were started elsewhere, or that another coordinator
            left, may wait here.
        command_retry: The policy by which commands of local steps are retried after
            conflicts.
        command_retry_timeout: The maximum duration of the execution of such a command:
            no attempt begins after it.
        command_hooks: Receive the facts of the executions of such commands, as the
            hooks of an executor do.
        stale_after: The age of a heartbeat from which another coordinator counts as
            stopped, at least 1 s. All coordinators should have the same value.
        ends_a_checkpoint: The number of ended sagas after which a checkpoint, the set
            of unfinished sagas, is recorded. A coordinator that starts reads only the
            log after the last checkpoint. At most 12 checkpoints are recorded without a
            wait, and then one per minute.
        registry: The registry of the events of local steps; by default, that of the
            store.
        on_event: Called with each recorded transition after its commit, on the event
            loop. It must be quick; if it raises, the coordinator stops.

    Raises:
        CoordinatorClosed: On entering: it was entered before.
        GraphMismatch: On entering: an unfinished saga of any coordinator was started
            with other steps under the same version.
        InvalidArgument: Two declarations have the same name and version, or a number is
            too low.

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
        ...             result = await handle.result()
        ...             print(result.outcome.value, result.state)
        >>> anyio.run(main)
        completed hello mia
    """

    def __init__(
        self,
        store: AsyncStore,
        sagas: Sequence[Saga[Any]],
        /,
        *,
        concurrency: int = 256,
        command_retry: RetryPolicy = _COMMAND_RETRY,
        command_retry_timeout: timedelta = _COMMAND_RETRY_TIMEOUT,
        command_hooks: Iterable[ExecutionHooks] = (),
        stale_after: timedelta = STALE_AFTER,
        ends_a_checkpoint: int = _ENDS_A_CHECKPOINT,
        registry: EventRegistry | None = None,
        on_event: Observer | None = None,
    ) -> None:
        """Validate the arguments; no saga is driven before `__aenter__`."""
        self._store = store
        executor = AsyncExecutor(
            store,
            retry=command_retry,
            retry_timeout=command_retry_timeout,
            registry=registry,
            hooks=command_hooks,
        )
        self._parts = assemble(
            store,
            sagas,
            journal=Journal(store, executor, on_event),
            concurrency=checked("concurrency", concurrency, minimum=1),
            stale_after=validate_stale_after(
                duration_seconds("stale_after", stale_after)
            ),
            ends_a_checkpoint=checked(
                "ends_a_checkpoint", ends_a_checkpoint, minimum=1
            ),
        )

    async def __aenter__(self) -> Self:
        """Resume the unfinished sagas."""
        await self._parts.lifecycle.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Let each saga end its action; the next coordinator continues the sagas."""
        return await self._parts.lifecycle.leave(kind, error, traceback)

    async def start(self, saga: Saga[S], state: S, /, *, id: str) -> SagaHandle[S]:  # noqa: A002 - the public name
        """Start a saga, durably, unless it was started before.

        If the saga is in one of this coordinator's shards, this call waits while
        ``concurrency`` sagas are worked on. If the saga is in another coordinator's
        shard, or if a step of another saga calls this method, the start is recorded
        without a wait.

        Args:
            saga: The declaration; one of those that the coordinator was given.
            state: The initial state. It is copied: the saga uses the recorded value.
            id: The saga's id, which is also the name of its stream: ``"saga-0198..."``.
                A second start with the same id and state returns the same saga,
                whatever its status.

        Returns:
            A handle, by which the result can be awaited.

        Raises:
            SagaExists: A saga with another state, or a stream that isn't a saga's, has
                the id.
            InvalidArgument: The id isn't valid for a saga, or the coordinator wasn't
                given this declaration.
            InvalidValue: The state isn't of the declared type, or would be read back
                as a different value.
            CoordinatorClosed: The coordinator isn't running.
        """
        run = await self._parts.starter.start(saga, id, state)
        return SagaHandle(run, self._parts.work.intake.catch_up)

    async def get(self, saga: Saga[S], saga_id: str, /) -> SagaHandle[S]:
        """Return the handle of a saga that was started before.

        Args:
            saga: Its declaration.
            saga_id: Its id.

        Returns:
            A handle. If the saga is unfinished, it is driven.

        Raises:
            SagaNotFound: No saga of this declaration was started under the id.
            SagaBlocked: This program can't drive the saga.
            GraphMismatch: It was started with other steps under the same version.
            CoordinatorClosed: The coordinator isn't running.
        """
        self._parts.work.workers.require_running()
        run = await self._parts.finder.find(saga_id)
        if run.saga is not saga:
            raise SagaNotFound(saga_id)
        return SagaHandle(run, self._parts.work.intake.catch_up)

    async def list(self) -> Sequence[SagaSummary]:
        """List the sagas that have not ended: at work, stuck or blocked.

        The sagas of other coordinators are read from the store. Of these, only the
        sagas that no live coordinator can run are listed as blocked. A saga that a
        defect blocks at another coordinator isn't listed as blocked.
        """
        return await self._parts.listing.all()

    async def stuck(self) -> Sequence[SagaSummary]:
        """List the sagas that wait for a person, each with its step and the reason."""
        return await self._parts.listing.stuck()

    async def blocked(self) -> Sequence[SagaSummary]:
        """List the blocked sagas, each with the reason.

        The list has the blocked sagas of this coordinator's shards, and all sagas that
        no live coordinator can run. The deadline of a blocked saga doesn't compensate
        it; the saga is then ``overdue``.
        """
        return await self._parts.listing.blocked()

    async def cancel(self, saga_id: str, /, *, reason: str) -> None:
        """Compensate a saga on request, even without its declaration.

        The coordinator first waits for a call in progress. The answer of this call
        doesn't continue the saga, but decides whether the step of the call is
        compensated, too.

        Args:
            saga_id: The saga's id.
            reason: The reason, for people; recorded.

        Raises:
            SagaNotFound: No saga was started under the id.
            InvalidTransition: The saga has ended, or is past its pivot.
            SagaBlocked: The saga's records can't be read.
        """
        await self._parts.decisions.cancel(saga_id, reason)

    @overload
    async def signal(
        self,
        saga_id: str,
        signal: Signal[None],
        /,
        *,
        by: str = ...,
        note: str = ...,
    ) -> None: ...
    @overload
    async def signal(
        self,
        saga_id: str,
        signal: Signal[P],
        payload: P,
        /,
        *,
        by: str = ...,
        note: str = ...,
    ) -> None: ...
    async def signal(
        self,
        saga_id: str,
        signal: Signal[Any],
        payload: Any = None,
        /,
        *,
        by: str = "",
        note: str = "",
    ) -> None:
        """Send a signal to a saga, durably, even without the saga's declaration.

        If the saga waits for the signal, it continues. Otherwise it keeps the signal
        until it waits for it.

        Args:
            saga_id: The saga's id.
            signal: The signal.
            payload: Its payload, of the signal's type.
            by: The person or the program that sends it; recorded.
            note: The reason; recorded.

        Raises:
            SagaNotFound: No saga was started under the id.
            InvalidValue: The payload isn't of the signal's type.
            InvalidTransition: The saga has ended.
            SagaBlocked: The saga's records can't be read.
        """
        encoded = signal.codec.encode(payload)
        request = SignalRequest(signal.name, encoded, by, note)
        await self._parts.decisions.signal(saga_id, request)

    async def retry(self, saga_id: str, /, *, by: str, note: str) -> None:
        """Let a stuck saga try again the step or compensation at which it is stuck.

        The coordinator doesn't need the declaration of the saga.

        Args:
            saga_id: The saga's id.
            by: The name of the person who decided it; recorded.
            note: The reason; recorded.

        Raises:
            SagaNotFound: No saga was started under the id.
            InvalidTransition: The saga isn't stuck.
            SagaBlocked: The saga's records can't be read.
        """
        await self._parts.decisions.retry(saga_id, by, note)

    async def skip(self, saga_id: str, step: str, /, *, by: str, note: str) -> None:
        """Count the step of a stuck saga as settled, and let the saga continue.

        Args:
            saga_id: The saga's id.
            step: The name of that step, so that no other step is skipped by mistake.
            by: The name of the person who decided it; recorded.
            note: The reason, and what was done instead; recorded.

        Raises:
            SagaNotFound: No saga was started under the id.
            InvalidTransition: The saga isn't stuck, or is stuck at another step.
            SagaBlocked: This program can't drive the saga.
        """
        await self._parts.decisions.skip(saga_id, step, by, note)
