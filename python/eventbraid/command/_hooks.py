"""The interface by which executors report executions, for metrics and traces."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec

from eventbraid.errors import ConflictedCategory, ConflictedStream

if TYPE_CHECKING:
    from collections.abc import Mapping

Operation: TypeAlias = Literal["execute", "load"]
"""A method of an executor whose calls are reported."""

Outcome: TypeAlias = Literal[
    "succeeded",
    "replayed",
    "rejected",
    "conflict",
    "retries_exhausted",
    "deadline_exceeded",
    "outcome_unknown",
    "failed",
    "cancelled",
]
"""The end of an attempt or of an execution; see `AttemptEnd` and `ExecutionEnd`."""


class ExecutionStart(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """The beginning of one execution: one call of `Executor.execute` or `load`.

    All facts of an execution refer to the same object, and no two executions have an
    equal one. So it can be a key of a dictionary.

    Attributes:
        operation: ``"execute"`` or ``"load"``.
        subject: The class of the command; for a load, the kind of the stream.
        is_keyed: Whether the command has an idempotency key.

    Example:
        >>> from eventbraid.command import ExecutionStart
        >>> class Transfer: ...
        >>> ExecutionStart("execute", Transfer).name
        'Transfer'
    """

    operation: Operation
    subject: type[object]
    is_keyed: bool = False

    @property
    def name(self) -> str:
        """The name of the class `subject`; the program has few of them."""
        return self.subject.__name__


class AttemptStart(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of one attempt of an execution.

    Attributes:
        execution: The execution.
        number: The number of the attempt; the first is 1.
        waited_seconds: The time since the execution began, or since the previous
            attempt ended: the delay before a retry, and the wait for the turn on a
            contended stream.

    Example:
        >>> from eventbraid.command import AttemptStart, ExecutionStart
        >>> class Transfer: ...
        >>> execution = ExecutionStart("execute", Transfer)
        >>> AttemptStart(execution=execution, number=2, waited_seconds=0.004).number
        2
    """

    execution: ExecutionStart
    number: int
    waited_seconds: float = 0.0


class AttemptEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one attempt: its outcome, its durations and its use of the cache.

    All durations are in seconds, by a monotonic clock. Those of the phases are totals
    of the attempt. Together they are at most `seconds`.

    In an event loop, `lookup_seconds`, `read_seconds`, `append_seconds` and
    `snapshot_seconds` include the time until the loop continues the task. The pauses in
    which a long fold lets other tasks run don't count for `fold_seconds`.

    Attributes:
        execution: The execution.
        number: The number of the attempt; the first is 1.
        outcome: ``"succeeded"``: the command has decided, and its events are committed.
            ``"replayed"``: the result of its idempotency key was found. ``"rejected"``:
            a business rule rejected the command. ``"conflict"``: a stream had another
            version than expected. ``"outcome_unknown"``: the store couldn't determine
            whether the commit happened. ``"deadline_exceeded"``: the deadline passed
            during the attempt. ``"cancelled"``: the task was cancelled, or Ctrl-C or
            `SystemExit` ended the call. ``"failed"``: any other exception.
        seconds: The duration of the attempt.
        lookup_seconds: The time for the lookup of the idempotency key, and for the
            read of the events that were committed under it.
        read_seconds: The time in which the store read events, snapshots and the names
            of a category's streams.
        fold_seconds: The time for the states: the search in the cache, decoding,
            `initial` and `apply`, `discover`, and after the commit the fold of the
            command's own events into the cached states.
        decide_seconds: The time in `decide`, with the validation and the encoding of
            its events.
        append_seconds: The time in which the store appended the events: the wait for
            other commits and for the disk.
        snapshot_seconds: The time in which the store appended snapshots of states.
        streams: The ids of the streams whose states were needed, in the order in which
            they were looked up. They aren't fit for labels of metrics, because there
            is no limit to their number, and they may name persons.
        cache_hits: The number of these streams that were cached, so that at most newer
            events were read. A `Command` uses the cache of states, a `StatefulCommand`
            that of decoded events, which has only streams of 16 events or more.
        events_read: The number of events that the store returned for the states. An
            event that was read twice counts twice.
        conflicts: The streams and categories in conflict if the outcome is
            ``"conflict"``, each with its expected and its actual version. A category
            is in conflict if a stream of a discovered kind was created meanwhile.
        error_type: The class of the exception that ended the attempt, if any.
        rejection_code: The code of a rejection.
        retry_delay_seconds: The delay until the next attempt if the command is retried,
            which may be 0; otherwise None. The reason of the retry is the outcome:
            ``"conflict"`` or ``"outcome_unknown"``.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.command import AttemptEnd, ExecutionStart
        >>> class Transfer: ...
        >>> failure = eb.errors.ConflictedStream("account-a", expected=3, actual=4)
        >>> attempt = AttemptEnd(
        ...     execution=ExecutionStart("execute", Transfer),
        ...     number=1,
        ...     outcome="conflict",
        ...     seconds=0.002,
        ...     fold_seconds=0.00002,
        ...     append_seconds=0.0015,
        ...     streams=("account-a", "account-b"),
        ...     cache_hits=2,
        ...     conflicts=(failure,),
        ...     retry_delay_seconds=0.0007,
        ... )
        >>> attempt.cache_misses, attempt.conflict_categories
        (0, {'account': 1})
        >>> attempt.phases
        {'fold': 2e-05, 'append': 0.0015}
    """

    execution: ExecutionStart
    number: int
    outcome: Outcome
    seconds: float
    lookup_seconds: float = 0.0
    read_seconds: float = 0.0
    fold_seconds: float = 0.0
    decide_seconds: float = 0.0
    append_seconds: float = 0.0
    snapshot_seconds: float = 0.0
    streams: tuple[str, ...] = ()
    cache_hits: int = 0
    events_read: int = 0
    conflicts: tuple[ConflictedStream | ConflictedCategory, ...] = ()
    error_type: type[BaseException] | None = None
    rejection_code: str | None = None
    retry_delay_seconds: float | None = None

    @property
    def phases(self) -> Mapping[str, float]:
        """The durations of the phases in seconds, without those that took no time.

        The keys are ``"lookup"``, ``"read"``, ``"fold"``, ``"decide"``, ``"append"``
        and ``"snapshot"``.
        """
        seconds = {
            "lookup": self.lookup_seconds,
            "read": self.read_seconds,
            "fold": self.fold_seconds,
            "decide": self.decide_seconds,
            "append": self.append_seconds,
            "snapshot": self.snapshot_seconds,
        }
        return {phase: length for phase, length in seconds.items() if length}

    @property
    def cache_misses(self) -> int:
        """The number of streams that weren't cached."""
        return len(self.streams) - self.cache_hits

    @property
    def conflict_categories(self) -> Mapping[str, int]:
        """The number of conflicts by category: on streams, and on the category."""
        return dict(
            Counter(
                one.stream.partition("-")[0]
                if isinstance(one, ConflictedStream)
                else one.category
                for one in self.conflicts
            )
        )


class ExecutionEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of an execution, which is reported exactly once.

    Attributes:
        execution: The execution.
        outcome: As in `AttemptEnd`, and further: ``"retries_exhausted"``: there was a
            conflict on every attempt.
        seconds: The duration of the execution, with all attempts and waits.
        attempts: The number of attempts.
        events_appended: The number of events that this execution has appended; 0 for a
            replayed result, and if the call was cancelled after the commit.
        last_position: The position of the last event of the commit, also of a replayed
            one; None without events.
        error_type: The class of the exception that the caller gets, if any.
        rejection_code: The code of a rejection.

    Example:
        >>> from eventbraid.command import ExecutionEnd, ExecutionStart
        >>> class Transfer: ...
        >>> end = ExecutionEnd(
        ...     execution=ExecutionStart("execute", Transfer),
        ...     outcome="rejected",
        ...     seconds=0.001,
        ...     attempts=1,
        ...     rejection_code="insufficient_funds",
        ... )
        >>> end.execution.name, end.outcome, end.rejection_code
        ('Transfer', 'rejected', 'insufficient_funds')
    """

    execution: ExecutionStart
    outcome: Outcome
    seconds: float
    attempts: int
    events_appended: int = 0
    last_position: int | None = None
    error_type: type[BaseException] | None = None
    rejection_code: str | None = None


class ExecutionHooks:
    """Receives the facts of executions, for metrics and traces.

    Derive a class, define the methods that it needs, and give instances to executors:
    ``eb.Executor(store, hooks=[Metrics()])``. The methods that it doesn't define do
    nothing.

    An execution calls `execution_started`, then `attempt_started` and `attempt_ended`
    for each attempt, and at last `execution_ended`. Each start has exactly one end,
    also if the execution fails or is cancelled. An executor with several hooks calls
    them in their order at a start, and in the reverse order at an end, so that their
    contexts are nested.

    An execution makes all its calls in its own thread, and in an event loop in its own
    task. So a hook may set a context variable at a start and reset it at the end.
    Different executions may call the same hook at the same time, in several threads.

    The methods are synchronous, and the execution waits for them, so they must not
    block. They must not execute commands on the same executor, because its hooks would
    be called again.

    A hook has no effect on the execution. An exception that a method raises is
    contained: the first one of each method is logged as an error with its traceback, on
    the logger ``eventbraid.command``, and further ones at DEBUG. Only
    `KeyboardInterrupt` and `SystemExit` are raised, because they end the program.

    A hook receives no command, event, state, metadata or idempotency key, and no text
    of an error, because all of these may contain secrets.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.command import AttemptEnd, ExecutionEnd, ExecutionHooks
        >>> @eb.event("doc.crate.packed")
        ... class CratePacked: ...
        >>> class Crate(eb.Stream[CratePacked], category="crate"): ...
        >>> class PackCrate(eb.Command):
        ...     crate: eb.Declared[Crate]
        ...
        ...     def decide(self):
        ...         yield self.crate.write(CratePacked())
        >>> class Printer(ExecutionHooks):
        ...     def attempt_ended(self, attempt: AttemptEnd, /) -> None:
        ...         print("attempt", attempt.number, attempt.outcome)
        ...
        ...     def execution_ended(self, end: ExecutionEnd, /) -> None:
        ...         print(end.execution.name, end.outcome, end.events_appended)
        >>> with eb.open("memory:") as store:
        ...     executor = eb.Executor(store, hooks=[Printer()])
        ...     done = executor.execute(PackCrate(crate="crate-1"))
        attempt 1 succeeded
        PackCrate succeeded 1
    """

    def execution_started(self, execution: ExecutionStart, /) -> ExecutionHooks | None:
        """Begin to observe an execution.

        Args:
            execution: The execution.

        Returns:
            The object that receives the further facts of this execution. It may keep
            what belongs to the execution, such as a span. If None is returned, `self`
            receives them. If ``ExecutionHooks()`` is returned, which does nothing, the
            execution isn't measured for this hook: so a hook can select a sample.
        """

    def attempt_started(self, attempt: AttemptStart, /) -> None:
        """Begin to observe an attempt."""

    def attempt_ended(self, attempt: AttemptEnd, /) -> None:
        """Receive the facts of an attempt that has ended."""

    def execution_ended(self, end: ExecutionEnd, /) -> None:
        """Receive the facts of the execution, which has ended."""
