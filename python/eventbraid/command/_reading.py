"""What a command has read, and the states that were folded from it.

The first read pins a position. Discovery goes in rounds: each reads only what was
newly asked for, at that position, and folds anew from `initial()` over all that is
known. After a conflict the same rounds are gone through again: a state that nobody can
have changed is folded on over what is new; any other state is folded anew from the
events, which are kept decoded; a round that asks for other streams than before is read
anew from there on.

A state that `decide` has seen is used again only if it is immutable all the way down.
To copy states beforehand would charge every command for the conflicts of a few.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from eventbraid.command._immutable import is_immutable
from eventbraid.command._provenance import mark_raised_by_command
from eventbraid.command._shared_state import (
    SharedState,
    folds_without_fields,
    share,
)
from eventbraid.command._stream import Stream
from eventbraid.command._typing import is_covered
from eventbraid.domain._annotation import is_defined_again
from eventbraid.domain._refusal import shown
from eventbraid.errors import DiscoveryLimit, EventDecodeError, InvalidArgument
from eventbraid.event._recorded import POSITION, kinds_of
from eventbraid.event._registry import default_registry
from eventbraid.event._transcribe import decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from eventbraid.command._command import Command
    from eventbraid.command._memory import EventMemory, Remembered
    from eventbraid.command._port import Port
    from eventbraid.command._shared_state import SharedStates
    from eventbraid.command._typing import EventKinds
    from eventbraid.event import Recorded
    from eventbraid.store import RecordedEvent, StreamsSnapshot

S = TypeVar("S")

REQUESTS_LIMIT = 100_000
"""How many streams `discover` may yield in one round, those known already included."""


@dataclass(frozen=True, slots=True)
class DiscoveryBounds:
    """How much a command may discover."""

    rounds: int = 16
    streams: int = 1_000


@dataclass(slots=True)
class Round(Generic[S]):
    """A state, the streams it was folded from, and those asked for after it."""

    streams: frozenset[str]
    state: S
    asked: tuple[str, ...] = ()


class Reading(Generic[S]):
    """The streams of one execution, their events, and the states of its rounds."""

    __slots__ = (
        "_bounds",
        "_command",
        "_generation",
        "_is_complete",
        "_memory",
        "_recorded",
        "_rounds",
        "kinds",
        "position",
        "versions",
    )

    def __init__(
        self,
        command: Command[S, Any],
        bounds: DiscoveryBounds,
        memory: EventMemory,
    ) -> None:
        """Begin with nothing read.

        Args:
            command: The command.
            bounds: How much it may discover.
            memory: Where decoded events are shared.
        """
        self._command = command
        self._memory = memory
        self._bounds = bounds
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._generation = default_registry.generation
        self._recorded: list[Recorded[Any]] = []
        self._is_complete = True
        self._rounds: list[Round[S]] = []
        self.kinds: dict[str, EventKinds] = declared_kinds(self._command)
        self.position = 0
        self.versions: dict[str, int] = {}

    async def state(
        self,
        port: Port,
        states: SharedStates | None,
        check_time: Callable[[], None],
    ) -> S:
        """Read what is new, and return the state of all declared and found streams.

        Args:
            port: The operations of the store.
            states: The states that the commands of the same queue share.
            check_time: Raises once the deadline has passed. It isn't kept: as a method
                of the execution, which keeps this object, it would close a cycle, and
                each command would stay in memory until the garbage collector runs.

        Raises:
            DiscoveryLimit: There are too many rounds or streams.
            UnknownEventType: An event's type isn't registered.
            EventDecodeError: An event isn't one that the command applies.
        """
        if self._generation != default_registry.generation:
            # Events of a class that was defined again are not those of its heir.
            self._begin_anew()
        key = None if states is None else self._shared_key()
        if states and key is not None:
            self._adopt(states.get(key))
        if self._rounds:
            await self._catch_up(port, check_time)
        if not self._rounds:
            await self._begin(port)
        if self._command.__shape__.discovers:
            await self._discover(port, check_time)
        state = self._rounds[-1].state
        if states is not None and key is not None and is_immutable(state):
            share(states, key, SharedState(self.versions, state))
        return state

    def _shared_key(self) -> tuple[type, frozenset[str]] | None:
        """Return what the commands have in common that fold to the same state."""
        kind = type(self._command)
        if kind.__shape__.discovers or not folds_without_fields(kind):
            return None
        return kind, frozenset(self.kinds)

    def _adopt(self, known: SharedState | None) -> None:
        """Continue from another command's state, unless the own one is newer."""
        if known is None or any(
            known.versions[stream] < version
            for stream, version in self.versions.items()
        ):
            return
        self._rounds = [Round(frozenset(self.kinds), known.state)]
        self._recorded, self._is_complete = [], False
        self.versions = dict(known.versions)

    def release(self) -> None:
        """Before a wait, drop the events that the next attempt needn't have in hand.

        Thousands of commands may wait for one stream, and each would keep a list of all
        events of it.
        """
        if self._command.__shape__.discovers or not self._rounds:
            return
        if is_immutable(self._rounds[-1].state):
            self._recorded, self._is_complete = [], False
        elif self._memory.has_all(self.versions):
            self._recorded, self._is_complete, self._rounds = [], False, []

    async def _begin(self, port: Port) -> None:
        if not self._is_complete:
            self._begin_anew()
        snapshot, self._recorded = await self._fetch(port, [*self.kinds], {})
        self.versions = dict(snapshot.versions)
        self.position = snapshot.position
        self._rounds = [Round(frozenset(self.kinds), self._folded(self._recorded))]

    async def _catch_up(self, port: Port, check_time: Callable[[], None]) -> None:
        snapshot, new = await self._fetch(port, list(self.versions), self.versions)
        self._recorded += new
        self.position = snapshot.position
        self.versions = dict(snapshot.versions)
        for number, one in enumerate(self._rounds):
            if is_immutable(one.state):
                one.state = fold(self._command, one.state, self._within(new, one))
            elif self._is_complete:
                one.state = self._folded(self._within(self._recorded, one))
            else:
                self._rounds = []
                return
            asked = self._newly_asked(one, check_time)
            if asked != one.asked:
                one.asked = ()
                self._forget_after(number)
                return

    async def _discover(self, port: Port, check_time: Callable[[], None]) -> None:
        while asked := self._newly_asked(last := self._rounds[-1], check_time):
            last.asked = asked
            self._refuse_too_much()
            await self._read(port, asked, at=self.position)
            known = last.streams.union(asked)
            self._rounds.append(Round(known, self._folded(self._recorded)))

    async def _read(
        self, port: Port, streams: Sequence[str], *, at: int | None = None
    ) -> StreamsSnapshot:
        """Read more streams from their beginning."""
        snapshot, events = await self._fetch(port, streams, {}, at)
        self.versions.update(snapshot.versions)
        if self._recorded:
            self._recorded += events
            self._recorded.sort(key=POSITION)
        else:
            self._recorded = events
        return snapshot

    async def _fetch(
        self,
        port: Port,
        streams: Sequence[str],
        after: Mapping[str, int],
        at: int | None = None,
    ) -> tuple[StreamsSnapshot, list[Recorded[Any]]]:
        """Read streams, from the store only what isn't remembered.

        Args:
            port: The operations of the store.
            streams: The streams.
            after: The version after which each is wanted, where that isn't 0.
            at: The position as of which they are wanted.

        Returns:
            The snapshot of what isn't remembered, and all events in order.
        """
        remembered_streams = self._memory.recall(streams)
        if not remembered_streams:
            snapshot = await port.read_streams(streams, at=at, after=after or None)
            new = self._decoded(snapshot)
            self._memory.learn(after, snapshot.versions, new, self._generation)
            return snapshot, new
        known = {
            stream: (remembered, len(remembered.events))
            for stream, remembered in remembered_streams.items()
        }
        known_until = {stream: count for stream, (_, count) in known.items()}
        skipped = {
            stream: max(after.get(stream, 0), known_until.get(stream, 0))
            for stream in (*after, *known)
        }
        snapshot = await port.read_streams(streams, at=at, after=skipped or None)
        new = self._decoded(snapshot)
        self._memory.learn(skipped, snapshot.versions, new, self._generation)
        events: list[Recorded[Any]] = []
        for stream, (remembered, count) in known.items():
            # By now more may be remembered than there was at that position.
            last = min(count, snapshot.versions[stream])
            recalled = remembered.events[after.get(stream, 0) : last]
            self._refuse_inapplicable(recalled, remembered.kinds)
            events += recalled
        is_sorted = not events or len(streams) == 1
        events += new
        if not is_sorted:
            events.sort(key=POSITION)
        return snapshot, events

    def _newly_asked(
        self, one: Round[S], check_time: Callable[[], None]
    ) -> tuple[str, ...]:
        if not self._command.__shape__.discovers:
            return ()
        asked: dict[str, None] = {}
        for found in self._discovered(one.state):
            check_time()
            self._learn_kind(found)
            if found.id not in one.streams:
                asked[found.id] = None
                if len(asked) > self._bounds.streams:
                    raise self._unbounded("streams", self._bounds.streams)
        return tuple(sorted(asked))

    def _within(
        self, recorded: list[Recorded[Any]], one: Round[S]
    ) -> Iterable[Recorded[Any]]:
        """Return the events of the streams that a round was folded from."""
        if len(one.streams) == len(self.versions):
            return recorded
        return (event for event in recorded if event.stream in one.streams)

    def _unbounded(self, what: str, limit: int) -> DiscoveryLimit:
        return DiscoveryLimit(self._command.__shape__.name, what, limit)

    def _discovered(self, state: S) -> Iterable[Stream[Any]]:
        try:
            asked = cast("object", self._command.discover(state))
            if not isinstance(asked, Iterable):
                remedy = "return or yield streams from discover()"
                raise self._misdiscovered(asked, remedy)  # noqa: TRY301 - marked alike
            for number, found in enumerate(cast("Iterable[object]", asked)):
                if number >= REQUESTS_LIMIT:
                    raise self._unbounded("requests in one round", REQUESTS_LIMIT)  # noqa: TRY301 - as above
                if not isinstance(found, Stream):
                    remedy = "give a stream by its kind: Kind(id)"
                    raise self._misdiscovered(found, remedy)  # noqa: TRY301 - as above
                yield found
        except Exception as error:
            mark_raised_by_command(error)
            raise

    def _misdiscovered(self, thing: object, remedy: str) -> InvalidArgument:
        name = self._command.__shape__.name
        return InvalidArgument(f"discovery of {name}", shown(thing), remedy)

    def _learn_kind(self, found: Stream[Any]) -> None:
        kind = type(found)
        lacking = self._command.__shape__.lacking(kind)
        if lacking:
            raise self._misdiscovered(
                found, f"add {lacking} to the second type argument of Command"
            )
        self.kinds[found.id] = joined(
            self.kinds.get(found.id, frozenset()), kind.events
        )

    def _refuse_too_much(self) -> None:
        rounds = self._rounds
        if len(rounds) > self._bounds.rounds:
            raise self._unbounded("rounds", self._bounds.rounds)
        if sum(len(one.asked) for one in rounds) > self._bounds.streams:
            raise self._unbounded("streams", self._bounds.streams)

    def _forget_after(self, number: int) -> None:
        del self._rounds[number + 1 :]
        known = self._rounds[number].streams
        self.kinds = {s: k for s, k in self.kinds.items() if s in known}
        self._recorded = [one for one in self._recorded if one.stream in known]
        self.versions = {s: v for s, v in self.versions.items() if s in known}

    def _folded(self, recorded: Iterable[Recorded[Any]]) -> S:
        try:
            state = self._command.initial()
        except Exception as error:
            mark_raised_by_command(error)
            raise
        return fold(self._command, state, recorded)

    def _decoded(self, snapshot: StreamsSnapshot) -> list[Recorded[Any]]:
        events = snapshot.events
        if not events:
            return []
        # Other commands may have decoded them while this one waited for the same read.
        known = self._memory.recall(snapshot.versions)
        typed = (
            [self._shared(event, known) for event in events]
            if known
            else [decoded(event) for event in events]
        )
        self._refuse_inapplicable(typed, kinds_of(typed))
        return typed

    @staticmethod
    def _shared(event: RecordedEvent, known: Mapping[str, Remembered]) -> Recorded[Any]:
        remembered = known.get(event.stream)
        if remembered is not None and event.version <= len(remembered.events):
            return remembered.events[event.version - 1]
        return decoded(event)

    def _refuse_inapplicable(
        self, recorded: Iterable[Recorded[Any]], found: AbstractSet[type]
    ) -> None:
        """Refuse events that the command doesn't apply, if any of them are found."""
        applied = self._command.__shape__.events
        if applied is None or found <= applied:
            return
        for one in recorded:
            event: object = one.event
            kind = type(event)
            if not is_covered(kind, applied):
                name = self._command.__shape__.name
                reason = (
                    f"{name} reads the stream but doesn't apply {kind.__name__}; add "
                    "it to the events of the stream's kind and of the command"
                )
                if any(is_defined_again(known, kind) for known in applied):
                    reason = (
                        f"the class {kind.__name__} was defined again after {name}; "
                        "define the stream's kind and the command again, too"
                    )
                raise EventDecodeError(one.type, one.stream, one.position, reason)


def fold(command: Command[S, Any], state: S, recorded: Iterable[Recorded[Any]]) -> S:
    """Return the state after these events.

    Raises:
        InvalidArgument: `apply` returned None, which is not a state of the command.
    """
    apply, state_before, last = command.apply, state, None
    try:
        for last in recorded:
            state = apply(state, last)
    except Exception as error:
        if state is None and _needs_state(command, state_before):
            raise _missing_state(command, last) from error
        mark_raised_by_command(error)
        raise
    if state is None and _needs_state(command, state_before):
        raise _missing_state(command, last)
    return state


def _needs_state(command: Command[Any, Any], state: object) -> bool:
    return state is not None and not command.__shape__.may_be_none


def _missing_state(
    command: Command[Any, Any], last: Recorded[Any] | None
) -> InvalidArgument:
    name = command.__shape__.name
    event = "an event" if last is None else type(last.event).__name__
    place = "" if last is None else f", version {last.version} of {last.stream!r}"
    return InvalidArgument(
        f"state of {name}",
        "None",
        f"{name}.apply() returned None for {event}{place}, or for an event before it; "
        "return the state for each event, also for one that doesn't change it",
    )


def declared_kinds(command: Command[Any, Any]) -> dict[str, EventKinds]:
    """Iterate over the declared streams, with the events that each may hold."""
    kinds: dict[str, EventKinds] = {}
    for field in command.__shape__.declared:
        for stream in field.ids_of(command):
            kinds[stream] = joined(kinds.get(stream, frozenset()), field.kind.events)
    return kinds


def joined(one: EventKinds, other: EventKinds) -> EventKinds:
    """Return the events of a stream that is of two kinds at once."""
    return None if one is None or other is None else one | other
