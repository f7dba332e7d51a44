"""Evaluates a command on a store, one stage at a time, and appends nothing.

The test kit `eventbraid.testing` uses this module and no other module of this package.
The stages are those of `Execution`: the reading of the streams with the fold and the
discovery, and the check of the decision. So the kit follows every rule of an execution
without a rule of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eventbraid.command._decision import decided
from eventbraid.command._discovery import DiscoveryBounds
from eventbraid.command._fold_reading import FoldReading, fold
from eventbraid.command._memory import EventMemory
from eventbraid.command._thread_port import ThreadPort
from eventbraid.event import EventDecoder
from eventbraid.event._registry import default_registry
from eventbraid.store._coroutine import run_without_loop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventbraid.command._stateful_command import StatefulCommand
    from eventbraid.event import EventRegistry, Recorded
    from eventbraid.store import NewEvent, Store

S = TypeVar("S")


class Evaluation(Generic[S]):
    """One evaluation of a command: call `read`, then `decide`."""

    def __init__(
        self,
        command: StatefulCommand[S, Any],
        store: Store,
        registry: EventRegistry = default_registry,
    ) -> None:
        """Prepare to evaluate a command on the events of a store.

        Args:
            command: The command.
            store: The store, which needs only `read_streams`.
            registry: The registry of the events.
        """
        self._registry = registry
        self._command = command
        self._port = ThreadPort(store)
        # Without a cache of events, each evaluation decodes its own instances. So a
        # function that changes an event can't influence the next evaluation.
        self._reading = FoldReading(
            command,
            DiscoveryBounds(),
            EventMemory(0, 0, registry),
            EventDecoder(registry=registry),
        )

    def read(self) -> S:
        """Read the streams, fold them and discover; return the state for `decide`."""
        run_without_loop(self._reading.read(self._port, _never_late, None))
        return self._reading.state

    def decide(self, state: S) -> Sequence[NewEvent]:
        """Call `decide`, check the writes, and return them as encoded events."""
        writes = self._command.decide(state)
        kinds = self._reading.kinds
        return decided(
            self._command, writes, kinds, None, (), _never_late, self._registry
        ).encoded

    def fold(self) -> S:
        """Fold the events that were read once more, from `initial`."""
        return fold(self._command, self._command.initial(), self._reading.recorded)

    def discover(self, state: S) -> Sequence[str]:
        """Call `discover` once more, and return the ids of the streams."""
        return [stream.id for stream in self._command.discover(state)]

    @property
    def discovers(self) -> bool:
        """Whether the command's class defines `discover`."""
        return self._command.__shape__.discovers

    @property
    def fields(self) -> Mapping[str, object]:
        """The values of the command's fields; of declared streams, their ids."""
        held = self._command.__dict__
        return {name: held[name] for name in self._command.__shape__.fields}

    @property
    def versions(self) -> Mapping[str, int]:
        """The streams that were read, each with its version."""
        return self._reading.versions

    @property
    def recorded(self) -> Sequence[Recorded[Any]]:
        """The decoded events that `apply` was called with."""
        return self._reading.recorded


def _never_late() -> None:
    """Accept any duration, because an evaluation has no deadline."""
