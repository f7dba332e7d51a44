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
from eventbraid.command._stream import Stream
from eventbraid.command._typing import is_covered
from eventbraid.domain._refusal import shown
from eventbraid.errors import DiscoveryLimit, EventDecodeError, InvalidArgument
from eventbraid.event._recorded import POSITION, kinds_of
from eventbraid.event._transcribe import decoded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from eventbraid.command._command import Command
    from eventbraid.command._memory import EventMemory
    from eventbraid.command._port import AsyncStore
    from eventbraid.command._typing import EventKinds
    from eventbraid.event import Recorded
    from eventbraid.store import RecordedEvent, StreamsSnapshot

S = TypeVar("S")


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
        "_memory",
        "_recorded",
        "_rounds",
        "kinds",
        "position",
        "versions",
    )

    def __init__(
        self, command: Command[S, Any], bounds: DiscoveryBounds, memory: EventMemory
    ) -> None:
        """Begin with nothing read."""
        self._command = command
        self._memory = memory
        self._bounds = bounds
        self._recorded: list[Recorded[Any]] = []
        self._rounds: list[Round[S]] = []
        self.kinds: dict[str, EventKinds] = declared_kinds(command)
        self.position = 0
        self.versions: dict[str, int] = {}

    async def state(self, store: AsyncStore) -> S:
        """Read what is new, and give the state of all declared and found streams.

        Raises:
            DiscoveryLimit: There are too many rounds or streams.
            UnknownEventType: An event's type isn't registered.
            EventDecodeError: An event isn't one that the command applies.
        """
        if self._rounds:
            await self._catch_up(store)
        else:
            await self._begin(store)
        if self._command.__shape__.discovers:
            await self._discover(store)
        return self._rounds[-1].state

    async def _begin(self, store: AsyncStore) -> None:
        snapshot = await self._read(store, list(self.kinds))
        self.position = snapshot.position
        self._rounds = [Round(frozenset(self.kinds), self._folded(self._recorded))]

    async def _catch_up(self, store: AsyncStore) -> None:
        snapshot = await store.read_streams(list(self.versions), after=self.versions)
        new = self._decoded(snapshot.events)
        self._recorded += new
        self.position = snapshot.position
        self.versions = dict(snapshot.versions)
        for number, one in enumerate(self._rounds):
            one.state = self._refreshed(one, new)
            asked = self._newly_asked(one)
            if asked != one.asked:
                one.asked = ()
                self._forget_after(number)
                return

    async def _discover(self, store: AsyncStore) -> None:
        while asked := self._newly_asked(last := self._rounds[-1]):
            last.asked = asked
            self._refuse_too_much()
            await self._read(store, asked, at=self.position)
            known = last.streams.union(asked)
            self._rounds.append(Round(known, self._folded(self._recorded)))

    async def _read(
        self, store: AsyncStore, streams: Sequence[str], *, at: int | None = None
    ) -> StreamsSnapshot:
        """Read more streams, without the events that are remembered."""
        recalled = self._memory.recall(streams)
        after = {stream: len(known.events) for stream, known in recalled.items()}
        snapshot = await store.read_streams(streams, at=at, after=after or None)
        new = self._decoded(snapshot.events)
        self._memory.learn(recalled, snapshot.versions, new)
        self.versions.update(snapshot.versions)
        in_order = not recalled and not self._recorded
        for stream, known in recalled.items():
            self._refuse_inapplicable(known.events, known.kinds)
            # By now more may be remembered than there was at that position.
            self._recorded += known.events[: snapshot.versions[stream]]
        self._recorded += new
        if not in_order:
            self._recorded.sort(key=POSITION)
        return snapshot

    def _newly_asked(self, one: Round[S]) -> tuple[str, ...]:
        if not self._command.__shape__.discovers:
            return ()
        asked: dict[str, None] = {}
        for found in self._discovered(one.state):
            self._learn_kind(found)
            if found.id not in one.streams:
                asked[found.id] = None
        return tuple(sorted(asked))

    def _discovered(self, state: S) -> Iterable[Stream[Any]]:
        asked = cast("object", self._command.discover(state))
        if not isinstance(asked, Iterable):
            raise self._misdiscovered(asked, "return or yield streams from discover()")
        for found in cast("Iterable[object]", asked):
            if not isinstance(found, Stream):
                raise self._misdiscovered(found, "give a stream by its kind: Kind(id)")
            yield found

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
        name, rounds = self._command.__shape__.name, self._rounds
        if len(rounds) > self._bounds.rounds:
            raise DiscoveryLimit(name, "rounds", self._bounds.rounds)
        if sum(len(one.asked) for one in rounds) > self._bounds.streams:
            raise DiscoveryLimit(name, "streams", self._bounds.streams)

    def _forget_after(self, number: int) -> None:
        del self._rounds[number + 1 :]
        known = self._rounds[number].streams
        self.kinds = {s: k for s, k in self.kinds.items() if s in known}
        self._recorded = [one for one in self._recorded if one.stream in known]
        self.versions = {s: v for s, v in self.versions.items() if s in known}

    def _refreshed(self, one: Round[S], new: list[Recorded[Any]]) -> S:
        if is_immutable(one.state):
            return fold(self._command, one.state, within(new, one.streams))
        return self._folded(within(self._recorded, one.streams))

    def _folded(self, recorded: Iterable[Recorded[Any]]) -> S:
        return fold(self._command, self._command.initial(), recorded)

    def _decoded(self, events: Iterable[RecordedEvent]) -> list[Recorded[Any]]:
        typed = [decoded(event) for event in events]
        if typed:
            self._refuse_inapplicable(typed, kinds_of(typed))
        return typed

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
                raise EventDecodeError(
                    one.type,
                    one.stream,
                    one.position,
                    f"{self._command.__shape__.name} reads the stream but doesn't "
                    f"apply {kind.__name__}; add it to the events of the stream's "
                    "kind and of the command",
                )


def fold(command: Command[S, Any], state: S, recorded: Iterable[Recorded[Any]]) -> S:
    """Give the state after these events."""
    apply = command.apply
    for one in recorded:
        state = apply(state, one)
    return state


def within(
    recorded: list[Recorded[Any]], streams: frozenset[str]
) -> Iterable[Recorded[Any]]:
    """Give the events of some streams."""
    return (one for one in recorded if one.stream in streams)


def declared_kinds(command: Command[Any, Any]) -> dict[str, EventKinds]:
    """Give each declared stream with the events that it may hold."""
    kinds: dict[str, EventKinds] = {}
    for field in command.__shape__.declared:
        for stream in field.ids_of(command):
            kinds[stream] = joined(kinds.get(stream, frozenset()), field.kind.events)
    return kinds


def joined(one: EventKinds, other: EventKinds) -> EventKinds:
    """Give the events of a stream that is of two kinds at once."""
    return None if one is None or other is None else one | other
