"""Evaluates a command on a store, one stage at a time, and appends nothing.

The test kit `eventbraid.testing` uses this module and no other module of this package.
The stages are those of `Execution`: the reading of the streams with the folds and the
discovery, and the check of the decision. So the kit follows every rule of an execution
without a rule of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from eventbraid._recorded import Parts
from eventbraid.command._command import Command
from eventbraid.command._decision import decided
from eventbraid.command._discovery import DiscoveryBounds
from eventbraid.command._fold_reading import FoldReading, fold
from eventbraid.command._memory import EventMemory
from eventbraid.command._state_cache import StateCache
from eventbraid.command._state_reading import StateReading
from eventbraid.command._stream_fold import fold_recorded, initial_state
from eventbraid.command._thread_port import ThreadPort
from eventbraid.command._write import STATES
from eventbraid.errors import InvalidArgument
from eventbraid.event import EventDecoder
from eventbraid.event._registry import default_registry
from eventbraid.store._coroutine import run_without_loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeAlias

    from eventbraid.command._any_command import AnyCommand
    from eventbraid.command._cached_state import Kind, States
    from eventbraid.command._stateful_command import StatefulCommand
    from eventbraid.command._stream import Stream
    from eventbraid.event import EventRegistry, Recorded
    from eventbraid.store import NewEvent, RecordedEvent, Store

    Place: TypeAlias = tuple[Kind, str] | None
    """The stream of a state; None for the state of a command of its own."""


class Evaluation:
    """One evaluation of a command: call `read`, then `decide`."""

    def __init__(
        self,
        command: AnyCommand,
        store: Store,
        registry: EventRegistry = default_registry,
    ) -> None:
        """Prepare to evaluate a command on the events of a store.

        Nothing is cached, so each evaluation decodes and folds its own instances. A
        function that changes one of them can't influence the next evaluation.

        Args:
            command: The command.
            store: The store, which needs only `read_streams`.
            registry: The registry of the events.
        """
        self._registry = registry
        self._command = command
        self._store = store
        bounds, decoder = DiscoveryBounds(), EventDecoder(registry=registry)
        cache = StateCache(registry)
        self._reading: StateReading | FoldReading[Any]
        if isinstance(command, Command):
            self._reading = StateReading(command, bounds, cache, decoder)
        else:
            memory = EventMemory(0, 0, registry)
            self._reading = FoldReading(command, bounds, memory, cache, decoder)

    def read(self) -> None:
        """Read the streams, fold them and discover."""
        run_without_loop(self._reading.read(ThreadPort(self._store), _never_late, None))

    def decide(self) -> Sequence[NewEvent]:
        """Call `decide`, check the writes, and return them as encoded events."""
        reading = self._reading
        return decided(
            reading.owner,
            reading.decide(),
            reading.kinds,
            None,
            (),
            _never_late,
            self._registry,
        ).encoded

    @property
    def states(self) -> Mapping[Place, object]:
        """The states on which `decide` decides."""
        if isinstance(self._reading, FoldReading):
            return {None: self._reading.state}
        states: States = self._reading.owner.__dict__.get(STATES, {})
        return {
            (kind, stream): found[1]
            for kind, streams in states.items()
            for stream, found in streams.items()
            if kind.has_state
        }

    @property
    def own_fold(self) -> Sequence[Recorded[Any]]:
        """The events that the command's own `apply` was called with."""
        reading = self._reading
        return reading.recorded if isinstance(reading, FoldReading) else ()

    def discover_on_new_state(self) -> tuple[object, object]:
        """Call `discover` with a state that is folded anew.

        Returns:
            The state that it was called with, and one of an equal fold.
        """
        command = cast("StatefulCommand[Any, Any]", self._command)
        states = [fold(command, command.initial(), self.own_fold) for _ in range(2)]
        list(command.discover(states[0]))
        return states[0], states[1]

    @property
    def discovers(self) -> bool:
        """Whether the command's class defines `discover`."""
        return self._command.__shape__.discovers

    @property
    def declared_kinds(self) -> frozenset[Kind]:
        """The kinds of the streams that the command's class declares."""
        return frozenset(field.kind for field in self._command.__shape__.declared)

    @property
    def fields(self) -> Mapping[str, object]:
        """The values of the command's fields; of declared streams, their ids."""
        held = self._command.__dict__
        return {name: held[name] for name in self._command.__shape__.fields}

    @property
    def versions(self) -> Mapping[str, int]:
        """The streams that were read, each with its version."""
        return self._reading.versions


def decoded_events(
    recorded: Iterable[RecordedEvent], registry: EventRegistry = default_registry
) -> list[tuple[RecordedEvent, object]]:
    """Decode events; one that upcasters split into several has several entries."""
    decode = EventDecoder(registry=registry).event
    found: list[tuple[RecordedEvent, object]] = []
    for one in recorded:
        event = decode(one)
        parts = event if isinstance(event, Parts) else (event,)
        found += [(one, part) for part in parts]
    return found


def stream_state(
    stream: Stream[Any, Any], store: Store, registry: EventRegistry = default_registry
) -> object:
    """Fold all events of a stream into its state.

    Raises:
        InvalidArgument: The kind of the stream has no state.
    """
    kind = type(stream)
    if not kind.has_state:
        raise InvalidArgument(
            "stream",
            stream.id,
            f"{kind.__name__} has no state; define initial() and apply() in it",
        )
    recorded = store.read_streams([stream.id]).events
    state = initial_state(kind, stream.id)
    return fold_recorded(
        kind, stream.id, state, recorded, EventDecoder(registry=registry)
    )


def _never_late() -> None:
    """Accept any duration, because an evaluation has no deadline."""
