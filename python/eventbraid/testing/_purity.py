"""The purity check: a command's functions depend on their arguments alone.

An executor may call `initial`, `apply`, `discover` and `decide` any number of times: a
conflict repeats them, a shared state skips them. A function that reads the clock, draws
a random number or changes its argument then decides differently from one time to the
next, and only under load.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventbraid.command import StatefulCommand
from eventbraid.command._evaluation import Evaluation
from eventbraid.errors import CommandRejected
from eventbraid.event import decode_event
from eventbraid.testing._fingerprint import fingerprint
from eventbraid.testing._history import History, new_events
from eventbraid.testing._watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType

    from eventbraid.store import NewEvent
    from eventbraid.testing._history import StreamEvents

# unittest leaves the frames of such a module out of the traceback.
__unittest = True

_METHODS = ("initial", "apply", "discover", "decide")


class ImpureCommand(AssertionError):
    """A function of a command depends on more than its arguments, or changes them.

    Attributes:
        command: The name of the command's class.
        method: The method that isn't pure; `None` if it is unknown.
        reason: What it does.

    Example:
        >>> from eventbraid.testing import ImpureCommand
        >>> str(ImpureCommand("Transfer", "decide", "reads the clock", "pass the time"))
        'Transfer.decide() is not pure: it reads the clock; pass the time'
    """

    def __init__(
        self, command: str, method: str | None, reason: str, remedy: str
    ) -> None:
        """Build the error from the method and what it does."""
        super().__init__(command, method, reason, remedy)
        self.command = command
        self.method = method
        self.reason = reason
        self._remedy = remedy

    def __str__(self) -> str:
        method = "" if self.method is None else f".{self.method}()"
        return f"{self.command}{method} is not pure: it {self.reason}; {self._remedy}"


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What one evaluation came to, in a form that can be compared."""

    state: object
    streams: Mapping[str, int]
    writes: object
    rejection: object


def check_purity(
    command: StatefulCommand[Any, Any], /, *events: StreamEvents | NewEvent
) -> None:
    """Check that a command's functions are pure: no clock, no randomness, no changes.

    The command is evaluated twice on the same events. Both evaluations must have the
    same state, the same streams and the same decision. No function may change the
    command or an event; `discover` and `decide` may not change the state, while `apply`
    may change and return it. Calls that read the clock, draw random numbers, open files
    or wait are reported with their place.

    Functions in C that depend on something else than their arguments are recognised if
    they are in the standard library.

    Args:
        command: The command.
        *events: The events of the streams, as in `given`.

    Raises:
        ImpureCommand: A function isn't pure.

    Example:
        >>> import random
        >>> import eventbraid as eb
        >>> from eventbraid.testing import check_purity
        >>> @eb.event("doc.dice.rolled")
        ... class Rolled:
        ...     points: int
        >>> class Dice(eb.Stream[Rolled], category="dice"): ...
        >>> class Roll(eb.StatefulCommand[None, Rolled]):
        ...     dice: eb.Declared[Dice]
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         yield self.dice.write(Rolled(random.randint(1, 6)))
        >>> check_purity(Roll(dice="dice-1"))
        Traceback (most recent call last):
        ...
        eventbraid.testing._purity.ImpureCommand: Roll.decide() is not pure: it uses ...
    """
    __tracebackhide__ = True
    history = History()
    for new, recorded_at in new_events(events):
        history.record(new, recorded_at)
    check_on_history(command, history)


def check_on_history(command: StatefulCommand[Any, Any], history: History) -> None:
    """Check a command on the events of a store double.

    Raises:
        ImpureCommand: A function isn't pure.
    """
    __tracebackhide__ = True
    first = _Check(command, history).run()
    second = _Check(command, history).run()
    name = type(command).__name__
    again = (
        "its result must depend on the command's fields and on the events alone, and "
        "not on anything that outlives a call"
    )
    if first.state != second.state:
        raise ImpureCommand(
            name, None, "folds the same events into another state each time", again
        )
    if first.streams != second.streams:
        raise ImpureCommand(
            name, "discover", "returns other streams for the same state", again
        )
    if (first.writes, first.rejection) != (second.writes, second.rejection):
        raise ImpureCommand(
            name, "decide", "decides differently on the same state", again
        )


class _Check:
    """One evaluation of a command, with the checks of its functions."""

    def __init__(self, command: StatefulCommand[Any, Any], history: History) -> None:
        self._name = type(command).__name__
        self._history = history
        self._evaluation = Evaluation(command, history.as_store())
        self._watch = Watch(_methods_of(type(command)))
        self._fields = fingerprint(self._evaluation.fields)

    def run(self) -> _Evaluated:
        """Evaluate the command.

        Raises:
            ImpureCommand: A function isn't pure.
        """
        __tracebackhide__ = True
        state: object = None
        writes: Sequence[NewEvent] = ()
        rejection: object = None
        try:
            state = self._read()
            writes = self._decide(state)
        except CommandRejected as rejected:
            rejection = rejected.code, str(rejected), fingerprint(rejected.facts)
        self._refuse_impure_calls()
        if fingerprint(self._evaluation.fields) != self._fields:
            raise self._impure(
                None,
                "changes a field of the command",
                "copy the value before it is changed, or use an immutable type",
            )
        return _Evaluated(
            state=fingerprint(state),
            streams=dict(self._evaluation.versions),
            writes=[(new.stream, new.type, new.data, new.metadata) for new in writes],
            rejection=rejection,
        )

    def _read(self) -> object:
        __tracebackhide__ = True
        with self._watch:
            state = self._evaluation.read()
        self._refuse_impure_calls()
        self._refuse_changed_events()
        if self._evaluation.discovers:
            # The state that was read may have been changed by `discover` already.
            fresh = self._evaluation.fold()
            before = fingerprint(fresh)
            self._evaluation.discover(fresh)
            self._refuse_changed_state("discover", before, fresh)
        return state

    def _decide(self, state: object) -> Sequence[NewEvent]:
        __tracebackhide__ = True
        before = fingerprint(state)
        try:
            with self._watch:
                return self._evaluation.decide(state)
        finally:
            self._refuse_impure_calls()
            self._refuse_changed_state("decide", before, state)

    def _refuse_impure_calls(self) -> None:
        __tracebackhide__ = True
        for call in self._watch.calls:
            raise self._impure(
                call.method,
                f"{call.effect} ({call.function}(), called in {call.file}:{call.line})",
                "pass the value as a field of the command",
            )

    def _refuse_changed_state(self, method: str, before: object, state: object) -> None:
        __tracebackhide__ = True
        if fingerprint(state) != before:
            raise self._impure(
                method,
                "changes the state that it is called with",
                "only apply() may change the state; copy it first, or use an immutable "
                "type",
            )

    def _refuse_changed_events(self) -> None:
        """Compare the events that were folded with newly decoded ones."""
        __tracebackhide__ = True
        for one in self._evaluation.recorded:
            original = decode_event(self._history.events[one.position - 1])
            if fingerprint(one.event) != fingerprint(original):
                raise self._impure(
                    "apply",
                    f"changes an event ({one.type}, version {one.version} of "
                    f"{one.stream!r})",
                    "make the event's class immutable, and build a new value instead",
                )

    def _impure(self, method: str | None, reason: str, remedy: str) -> ImpureCommand:
        return ImpureCommand(self._name, method, reason, remedy)


def _methods_of(kind: type[StatefulCommand[Any, Any]]) -> dict[CodeType, str]:
    """Return the code of the functions that must be pure, with their names."""
    found: dict[CodeType, str] = {}
    for base in kind.__mro__:
        own = vars(base)
        for name in own.keys() & _METHODS if base is not StatefulCommand else ():
            code = getattr(inspect.unwrap(own[name]), "__code__", None)
            if code is not None:
                found[code] = name
    return found
