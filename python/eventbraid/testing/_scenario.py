"""Given events, when a command is executed, then events: tests of commands by example.

The command is executed by `Executor`, on a store double in memory. So every rule holds
as in production: discovery, the checks of the decision, idempotency keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, cast, overload

from eventbraid.command import Command, Executor, StatefulCommand, Stream
from eventbraid.command._evaluation import (
    Evaluation,
    decoded_events,
    stream_state,
)
from eventbraid.domain._invalid_value import shown_argument
from eventbraid.errors import CommandRejected, InvalidArgument
from eventbraid.event import new_event
from eventbraid.event._registry import default_registry
from eventbraid.testing._difference import (
    difference,
    lines_of_events,
    lines_of_value,
)
from eventbraid.testing._history import History, StreamEvents, new_events
from eventbraid.testing._purity import check_on_history

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Never, Unpack

    from eventbraid.command import AnyCommand, Executed, Write
    from eventbraid.event import EventRegistry
    from eventbraid.store import Expectation, NewEvent, RecordedEvent

S = TypeVar("S")
T = TypeVar("T")

_MISSING = object()


class ExecuteOptions(TypedDict, total=False):
    """The options of `Executor.execute` that a test may pass to `Given.when`."""

    idempotency_key: str | None
    metadata: Mapping[str, str] | None
    also: Iterable[Write]
    expect: Mapping[str, Expectation] | None


# unittest leaves the frames of such a module out of the traceback.
__unittest = True


def given(
    *events: StreamEvents | Write | NewEvent,
    check_purity: bool = True,
    registry: EventRegistry | None = None,
) -> Given:
    """Begin a test of a command with the events that its streams have.

    Args:
        *events: The events in the order in which they were recorded: `on(...)`, which
            names the stream, or a `Write`. A `NewEvent` stands for an event as it was
            written to the log, for example in an older schema version.
        check_purity: Whether `when` also checks the command; see `check_purity`.
        registry: The registry of the events' classes; by default, that of the process.

    Raises:
        InvalidArgument: An argument doesn't name the stream of its events.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import given, on
        >>> @eb.event("doc.safe.filled")
        ... class Filled:
        ...     coins: int
        >>> @eb.event("doc.safe.emptied")
        ... class Emptied:
        ...     coins: int
        >>> class Safe(eb.Stream[Filled | Emptied, int], category="safe"):
        ...     def initial(self):
        ...         return 0
        ...
        ...     def apply(self, state, event, /):
        ...         match event:
        ...             case Filled(coins):
        ...                 return state + coins
        ...             case Emptied(coins):
        ...                 return state - coins
        >>> class Empty(eb.Command):
        ...     safe: eb.Declared[Safe]
        ...
        ...     def decide(self):
        ...         eb.require(self.safe.state > 0, "empty")
        ...         yield self.safe.write(Emptied(self.safe.state))
        >>> safe = Safe("safe-1")
        >>> full = given(on(safe, Filled(5), Filled(7)))
        >>> emptied = full.when(Empty(safe=safe))
        >>> emptied.then(on(safe, Emptied(12))).state(safe, 0)
        <Outcome of Empty: 1 event>
        >>> given().when(Empty(safe=safe)).rejected("empty")
        <Outcome of Empty: rejected: empty>
    """
    history = History(default_registry if registry is None else registry)
    history.give(events)
    return Given(history, check_purity=check_purity)


class Given:
    """The events of a test; `given` builds it.

    Example:
        >>> from eventbraid.testing import Given, given
        >>> isinstance(given(), Given)
        True
    """

    def __init__(self, history: History, *, check_purity: bool) -> None:
        """Begin with the events of a store double; use `given` instead."""
        self._history = history
        self._check_purity = check_purity

    @overload
    def when(
        self, command: StatefulCommand[S, Any], /, **options: Unpack[ExecuteOptions]
    ) -> Outcome[S]: ...
    @overload
    def when(
        self, command: Command, /, **options: Unpack[ExecuteOptions]
    ) -> Outcome[Never]: ...
    def when(
        self, command: AnyCommand, /, **options: Unpack[ExecuteOptions]
    ) -> Outcome[Any]:
        """Execute a command on these events.

        The events of this object stay as they are, so it may begin several tests.

        Args:
            command: The command.
            **options: ``idempotency_key``, ``metadata``, ``also`` and ``expect``, as
                for `Executor.execute`.

        Returns:
            The outcome, to be compared with what is expected.

        Raises:
            ImpureCommand: A function of the command isn't pure.
            Exception: Whatever `Executor.execute` raises, except a rejection.
        """
        __tracebackhide__ = True
        if not isinstance(command, Command | StatefulCommand):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgument(
                "command",
                type(command).__name__,
                "give an instance of a command's class",
            )
        history = self._history.copy()
        key = options.get("idempotency_key")
        is_known = key is not None and history.committed(key) is not None
        if self._check_purity and not is_known:
            check_on_history(command, history)
        executed: Executed | None = None
        rejection: CommandRejected | None = None
        try:
            executed = Executor(history.as_store()).execute(command, **options)
        except CommandRejected as rejected:
            rejection = rejected
        return Outcome(command, history, self._check_purity, executed, rejection)

    def state(self, stream: Stream[Any, T], expected: T, /) -> Given:
        """Check the state of a stream, which its kind folds from these events.

        Args:
            stream: The stream, of a kind with a state.
            expected: The state.

        Raises:
            AssertionError: The state is another.
            InvalidArgument: The kind of the stream has no state.
        """
        __tracebackhide__ = True
        _compare_state(stream, self._history, expected)
        return self


class Outcome(Generic[S]):
    """The outcome of a command in a test; `Given.when` returns it.

    Each check returns the outcome, so that checks may follow each other.

    Attributes:
        executed: The result of the execution; `None` if the command was rejected.
        rejection: The rejection; `None` if the command was executed.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.testing import given, on
        >>> @eb.event("doc.pot.boiled")
        ... class Boiled: ...
        >>> class Pot(eb.Stream[Boiled], category="pot"): ...
        >>> class Boil(eb.Command):
        ...     pot: eb.Declared[Pot]
        ...
        ...     def decide(self):
        ...         yield self.pot.write(Boiled())
        >>> once = given().when(Boil(pot="pot-1"), idempotency_key="k")
        >>> again = once.then(on(Pot("pot-1"), Boiled())).when(
        ...     Boil(pot="pot-1"), idempotency_key="k"
        ... )
        >>> again.replayed()
        <Outcome of Boil: replayed>
    """

    def __init__(
        self,
        command: AnyCommand,
        history: History,
        check_purity: bool,  # noqa: FBT001 - passed on
        executed: Executed | None,
        rejection: CommandRejected | None,
    ) -> None:
        """Store the outcome; use `Given.when` instead."""
        self.executed = executed
        self.rejection = rejection
        self._command = command
        self._history = history
        self._check_purity = check_purity

    @property
    def events(self) -> list[tuple[str, object]]:
        """The events of the commit, or of the replayed one, each with its stream."""
        return [(recorded.stream, event) for recorded, event in self._committed]

    @property
    def _committed(self) -> list[tuple[RecordedEvent, object]]:
        """The events of the commit, each with its record."""
        executed = self.executed
        if executed is None or executed.first_position is None:
            return []
        recorded = self._history.events[
            executed.first_position - 1 : executed.last_position
        ]
        if executed.replayed:
            # The events of a replayed result were decoded from the log, and upcasters
            # may have made more or fewer events of a record.
            return decoded_events(recorded, self._history.registry)
        return list(zip(recorded, executed.events, strict=True))

    def then(self, *expected: StreamEvents | Write | NewEvent) -> Outcome[S]:
        """Check that the command decided on exactly these events, in this order.

        Args:
            *expected: The events, as in `given`; none for a command that decides on
                nothing.

        Raises:
            AssertionError: It decided on others, or was rejected. The message shows the
                difference.
        """
        __tracebackhide__ = True
        registry = self._history.registry
        wanted = list(_typed(expected, registry))
        if self.executed is None:
            raise self._unexpected_rejection(lines_of_events(_placed(wanted)))
        actual = self.events
        is_equal = len(wanted) == len(actual) and all(
            wanted_one[0] == one[0] and _is_same(wanted_one[1], one[1], registry)
            for wanted_one, one in zip(wanted, actual, strict=True)
        )
        if not is_equal:
            shown = difference(
                lines_of_events(_placed(wanted)), lines_of_events(actual), "decided"
            )
            raise AssertionError(f"{self._name} decided on other events\n{shown}")
        self._check_metadata(wanted)
        return self

    def rejected(self, code: str, /, **facts: object) -> Outcome[S]:
        """Check that the command was rejected.

        Args:
            code: The code of the rejection.
            **facts: Facts of the rejection, each with its value. Others may be present.

        Raises:
            AssertionError: It was executed, or rejected with another code or other
                facts.
        """
        __tracebackhide__ = True
        rejection = self.rejection
        if rejection is None:
            shown = "\n".join(lines_of_events(self.events))
            raise AssertionError(
                f"{self._name} was not rejected with {code!r}, but decided:\n{shown}"
            )
        held = rejection.facts
        actual = {name: held[name] for name in facts if name in held}
        if (rejection.code, actual) != (code, facts):
            shown = difference(
                _rejection_lines(code, facts),
                # Without expected facts, only the code is compared.
                _rejection_lines(rejection.code, held if facts else {}),
                "was",
            )
            raise AssertionError(
                f"the rejection of {self._name} is another: {rejection}\n{shown}"
            )
        return self

    @overload
    def state(self, expected: S, /) -> Outcome[S]: ...
    @overload
    def state(self, stream: Stream[Any, T], expected: T, /) -> Outcome[S]: ...
    def state(self, stream: object, expected: object = _MISSING, /) -> Outcome[S]:
        """Check a state after the command: that of a stream, or the command's own.

        This is the state on which a further execution of the command would decide.

        Args:
            stream: The stream, of a kind with a state; left out for the state of a
                `StatefulCommand`.
            expected: The state.

        Raises:
            AssertionError: The state is another.
            InvalidArgument: The kind of the stream, or the command, has no state.
        """
        __tracebackhide__ = True
        if expected is not _MISSING:
            typed = cast("Stream[Any, Any]", stream)
            _compare_state(typed, self._history, expected)
            return self
        command = self._command
        if not isinstance(command, StatefulCommand):
            raise InvalidArgument(
                "state",
                shown_argument(stream),
                f"{self._name} has no state of its own; name the stream: "
                "state(Kind(id), expected)",
            )
        evaluation = Evaluation(
            command, self._history.as_store(), self._history.registry
        )
        evaluation.read()
        _refuse_other_state(self._name, stream, evaluation.states[None])
        return self

    def replayed(self) -> Outcome[S]:
        """Check that the command was not executed, because its key was known.

        Raises:
            AssertionError: The command was executed or rejected.
        """
        __tracebackhide__ = True
        if self.executed is None:
            raise self._unexpected_rejection(["the result of the first execution"])
        if not self.executed.replayed:
            shown = "\n".join(lines_of_events(self.events))
            raise AssertionError(
                f"{self._name} was executed, not replayed, and decided:\n{shown}"
            )
        return self

    @overload
    def when(
        self, command: StatefulCommand[T, Any], /, **options: Unpack[ExecuteOptions]
    ) -> Outcome[T]: ...
    @overload
    def when(
        self, command: Command, /, **options: Unpack[ExecuteOptions]
    ) -> Outcome[Never]: ...
    def when(
        self, command: AnyCommand, /, **options: Unpack[ExecuteOptions]
    ) -> Outcome[Any]:
        """Execute another command after this one; see `Given.when`."""
        __tracebackhide__ = True
        after = Given(self._history, check_purity=self._check_purity)
        return after.when(command, **options)

    @property
    def _name(self) -> str:
        return type(self._command).__name__

    def _unexpected_rejection(self, expected: list[str]) -> AssertionError:
        shown = "\n".join(expected)
        error = AssertionError(
            f"{self._name} was rejected: {self.rejection}\nexpected:\n{shown}"
        )
        error.__cause__ = self.rejection
        return error

    def _check_metadata(self, wanted: list[_Wanted]) -> None:
        __tracebackhide__ = True
        for (stream, event, expected), (one, _) in zip(
            wanted, self._committed, strict=True
        ):
            # The schema version is metadata that the library adds.
            actual = {key: held for key, held in one.metadata.items() if key != "v"}
            wrong: tuple[object, object] | None = None
            if expected.metadata is not None and dict(expected.metadata) != actual:
                wrong = dict(expected.metadata), actual
            elif expected.original_time not in {None, one.original_time}:
                wrong = expected.original_time, one.original_time
            if wrong is not None:
                expected_lines, actual_lines = map(lines_of_value, wrong)
                shown = difference(expected_lines, actual_lines, "written")
                place = f"{type(event).__name__} on {stream}"
                raise AssertionError(
                    f"the metadata or the original time of {place} is another\n{shown}"
                )

    def __repr__(self) -> str:
        if self.rejection is not None:
            result = f"rejected: {self.rejection}"
        elif self.executed is not None and self.executed.replayed:
            result = "replayed"
        else:
            count = len(self.events)
            result = f"{count} event" if count == 1 else f"{count} events"
        return f"<Outcome of {self._name}: {result}>"


def _compare_state(
    stream: Stream[Any, Any], history: History, expected: object
) -> None:
    __tracebackhide__ = True
    if not isinstance(stream, Stream):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgument(
            "stream", str(stream), "give a stream by its kind: state(Kind(id), state)"
        )
    actual = stream_state(stream, history.as_store(), history.registry)
    _refuse_other_state(repr(stream), expected, actual)


def _refuse_other_state(owner: str, expected: object, actual: object) -> None:
    __tracebackhide__ = True
    if actual != expected:
        shown = difference(lines_of_value(expected), lines_of_value(actual), "folded")
        raise AssertionError(f"the state of {owner} is another\n{shown}")


_Wanted = tuple[str, object, StreamEvents]


def _typed(expected: Iterable[object], registry: EventRegistry) -> Iterable[_Wanted]:
    """Return the events of some arguments, each with its stream and its metadata."""
    for one in expected:
        if isinstance(one, StreamEvents):
            yield from ((one.stream, event, one) for event in one.events)
            continue
        history = History(registry)
        for new, _ in new_events([one], registry):
            history.record(new)
            metadata = {key: held for key, held in new.metadata.items() if key != "v"}
            time = new.original_time
            # Upcasters may make several events of an old one, or none.
            for _, event in decoded_events(history.events[-1:], registry):
                yield (
                    new.stream,
                    event,
                    StreamEvents(new.stream, (event,), metadata or None, time),
                )


def _placed(wanted: Iterable[_Wanted]) -> Iterable[tuple[str, object]]:
    return ((stream, event) for stream, event, _ in wanted)


def _is_same(expected: object, actual: object, registry: EventRegistry) -> bool:
    """Return whether two events are equal, also if their class defines no `==`."""
    if type(expected) is not type(actual):
        return False
    if expected == actual:
        return True
    written = [new_event("_", one, registry=registry) for one in (expected, actual)]
    return written[0] == written[1]


def _rejection_lines(code: str, facts: Mapping[str, object]) -> list[str]:
    lines = [code]
    for name, value in facts.items():
        first, *rest = lines_of_value(value)
        lines += [f"    {name}={first}", *(f"        {line}" for line in rest)]
    return lines
