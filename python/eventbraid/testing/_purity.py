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

from eventbraid.command import Command, StatefulCommand, Stream
from eventbraid.command._evaluation import Evaluation, decoded_events
from eventbraid.errors import CommandRejected
from eventbraid.event._registry import default_registry
from eventbraid.testing._fingerprint import fingerprint
from eventbraid.testing._history import History
from eventbraid.testing._watch import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType

    from eventbraid.command import AnyCommand, Write
    from eventbraid.command._evaluation import Place
    from eventbraid.event import EventRegistry
    from eventbraid.store import NewEvent, RecordedEvent
    from eventbraid.testing._history import StreamEvents

# unittest leaves the frames of such a module out of the traceback.
__unittest = True

_METHODS = ("initial", "apply", "discover", "decide")


class ImpureCommand(AssertionError):
    """A function of a command depends on more than its arguments, or changes them.

    The functions of the kinds of its streams count, too.

    Attributes:
        owner: The name of the command's class, or of the stream's kind.
        method: The method that isn't pure; `None` if it is unknown.
        reason: What it does.

    Example:
        >>> from eventbraid.testing import ImpureCommand
        >>> str(ImpureCommand("Transfer", "decide", "reads the clock", "pass the time"))
        'Transfer.decide() is not pure: it reads the clock; pass the time'
    """

    def __init__(
        self, owner: str, method: str | None, reason: str, remedy: str
    ) -> None:
        """Build the error from the method and what it does."""
        super().__init__(owner, method, reason, remedy)
        self.owner = owner
        self.method = method
        self.reason = reason
        self._remedy = remedy

    def __str__(self) -> str:
        method = "" if self.method is None else f".{self.method}()"
        return f"{self.owner}{method} is not pure: it {self.reason}; {self._remedy}"


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What one evaluation came to, in a form that can be compared."""

    states: Mapping[Place, object]
    streams: Mapping[str, int]
    writes: object
    rejection: object


def check_purity(
    command: AnyCommand,
    /,
    *events: StreamEvents | Write | NewEvent,
    registry: EventRegistry | None = None,
) -> None:
    """Check that a command's functions are pure: no clock, no randomness, no changes.

    The command is evaluated twice on the same events. Both evaluations must have the
    same states, the same streams and the same decision. No function may change the
    command, an event or a state; only `StatefulCommand.apply` may change the state and
    return it. Calls that read the clock, draw random numbers, open files or wait are
    reported with their place.

    Functions in C that depend on something else than their arguments are recognised if
    they are in the standard library.

    Args:
        command: The command.
        *events: The events of the streams, as in `given`.
        registry: The registry of the events' classes; by default, that of the process.

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
        >>> class Roll(eb.Command):
        ...     dice: eb.Declared[Dice]
        ...
        ...     def decide(self):
        ...         yield self.dice.write(Rolled(random.randint(1, 6)))
        >>> check_purity(Roll(dice="dice-1"))
        Traceback (most recent call last):
        ...
        eventbraid.testing._purity.ImpureCommand: Roll.decide() is not pure: it uses ...
    """
    __tracebackhide__ = True
    history = History(default_registry if registry is None else registry)
    history.give(events)
    check_on_history(command, history)


def check_on_history(command: AnyCommand, history: History) -> None:
    """Check a command on the events of a store double.

    Raises:
        ImpureCommand: A function isn't pure.
    """
    __tracebackhide__ = True
    first = _Check(command, history).run()
    second = _Check(command, history).run()
    name = type(command).__name__
    for place, state in first.states.items():
        if second.states.get(place) != state:
            owner = name if place is None else place[0].__name__
            method = None if place is None else "apply"
            raise ImpureCommand(owner, method, _OTHER_STATE, _NOTHING_ELSE)
    if first.streams != second.streams:
        reason = "returns other streams for the same state"
        raise ImpureCommand(name, "discover", reason, _NOTHING_ELSE)
    if (first.writes, first.rejection) != (second.writes, second.rejection):
        reason = "decides differently on the same state"
        raise ImpureCommand(name, "decide", reason, _NOTHING_ELSE)


_OTHER_STATE = "folds the same events into another state each time"
_CHANGED_STATE = "changes the state that it is called with"
_NOTHING_ELSE = (
    "its result must depend on the command's fields and on the events alone, not on "
    "anything that outlives a call"
)
_IMMUTABLE_STATE = "copy the state before it is changed, or use an immutable type"
_IMMUTABLE_EVENT = "make the event's class immutable, and build a new value instead"


class _Check:
    """One evaluation of a command, with the checks of its functions."""

    def __init__(self, command: AnyCommand, history: History) -> None:
        self._name = type(command).__name__
        self._history = history
        self._evaluation = Evaluation(command, history.as_store(), history.registry)
        methods = _methods_of(type(command))
        for kind in self._evaluation.declared_kinds:
            methods |= _methods_of(kind)
        self._watch = Watch(methods)
        self._fields = fingerprint(self._evaluation.fields)

    def run(self) -> _Evaluated:
        """Evaluate the command.

        Raises:
            ImpureCommand: A function isn't pure.
        """
        __tracebackhide__ = True
        writes: Sequence[NewEvent] = ()
        states: Mapping[Place, object] = {}
        rejection: object = None
        try:
            self._read()
            states = self._fingerprints()
            writes = self._decide(states)
        except CommandRejected as rejected:
            rejection = rejected.code, str(rejected), fingerprint(rejected.facts)
        self._refuse_impure_calls()
        if fingerprint(self._evaluation.fields) != self._fields:
            remedy = "copy the value before it is changed, or use an immutable type"
            raise ImpureCommand(
                self._name, None, "changes a field of the command", remedy
            )
        return _Evaluated(
            states=states,
            streams=dict(self._evaluation.versions),
            writes=[
                (new.stream, new.type, new.data, new.metadata, new.original_time)
                for new in writes
            ],
            rejection=rejection,
        )

    def _read(self) -> None:
        __tracebackhide__ = True
        try:
            with self._watch:
                self._evaluation.read()
        finally:
            self._refuse_impure_calls()
        self._check_own_fold()
        for place, state in self._evaluation.states.items():
            if place is not None:
                self._check_stream_fold(*place, state)

    def _decide(self, states: Mapping[Place, object]) -> Sequence[NewEvent]:
        __tracebackhide__ = True
        try:
            with self._watch:
                return self._evaluation.decide()
        finally:
            self._refuse_impure_calls()
            if self._fingerprints() != states:
                raise ImpureCommand(
                    self._name, "decide", _CHANGED_STATE, _IMMUTABLE_STATE
                )

    def _fingerprints(self) -> Mapping[Place, object]:
        states = self._evaluation.states
        return {place: fingerprint(state) for place, state in states.items()}

    def _check_own_fold(self) -> None:
        """Check a command's own `apply`, which may change the state, and `discover`."""
        __tracebackhide__ = True
        folded = self._evaluation.own_fold
        positions = sorted({one.position for one in folded})
        original = decoded_events(
            (self._history.events[at - 1] for at in positions), self._history.registry
        )
        for one, (raw, event) in zip(folded, original, strict=True):
            if fingerprint(one.event) != fingerprint(event):
                reason = f"changes an event ({_place_of(raw)})"
                raise ImpureCommand(self._name, "apply", reason, _IMMUTABLE_EVENT)
        if folded and self._evaluation.discovers:
            # The state that was read may have been changed by `discover` already.
            passed, untouched = self._evaluation.discover_on_new_state()
            if fingerprint(passed) != fingerprint(untouched):
                raise ImpureCommand(
                    self._name, "discover", _CHANGED_STATE, _IMMUTABLE_STATE
                )

    def _check_stream_fold(
        self, kind: type[Stream[Any, Any]], stream_id: str, state: object
    ) -> None:
        """Fold a stream one event at a time: `apply` may change neither argument."""
        __tracebackhide__ = True
        recorded = [one for one in self._history.events if one.stream == stream_id]
        watch = Watch(_methods_of(kind))
        stream = kind(stream_id)
        with watch:
            folded = stream.initial()
        for raw, event in decoded_events(recorded, self._history.registry):
            before, event_before = fingerprint(folded), fingerprint(event)
            with watch:
                applied = stream.apply(folded, event)
            if fingerprint(folded) != before:
                reason = f"{_CHANGED_STATE} ({_place_of(raw)})"
                raise ImpureCommand(kind.__name__, "apply", reason, _IMMUTABLE_STATE)
            if fingerprint(event) != event_before:
                reason = f"changes an event ({_place_of(raw)})"
                raise ImpureCommand(kind.__name__, "apply", reason, _IMMUTABLE_EVENT)
            folded = applied
        self._refuse_impure_calls(watch)
        if fingerprint(folded) != fingerprint(state):
            if self._evaluation.discovers:
                raise ImpureCommand(
                    self._name, "discover", _CHANGED_STATE, _IMMUTABLE_STATE
                )
            raise ImpureCommand(kind.__name__, "apply", _OTHER_STATE, _NOTHING_ELSE)

    def _refuse_impure_calls(self, watch: Watch | None = None) -> None:
        __tracebackhide__ = True
        for call in (watch or self._watch).calls:
            place = f"{call.function}(), called in {call.file}:{call.line}"
            remedy = "pass the value as a field of the command"
            owner, method = call.method
            if owner != self._name:
                remedy = "record the value in the event"
            raise ImpureCommand(owner, method, f"{call.effect} ({place})", remedy)


def _place_of(recorded: RecordedEvent) -> str:
    return f"{recorded.type}, version {recorded.version} of {recorded.stream!r}"


def _methods_of(kind: type) -> dict[CodeType, tuple[str, str]]:
    """Return the code of the functions that must be pure, with class and name."""
    found: dict[CodeType, tuple[str, str]] = {}
    for base in kind.__mro__:
        own = vars(base)
        for name in own.keys() & _METHODS if base not in _BASES else ():
            code = getattr(inspect.unwrap(own[name]), "__code__", None)
            if code is not None:
                found[code] = kind.__name__, name
    return found


_BASES = frozenset({Command, StatefulCommand, Stream})
