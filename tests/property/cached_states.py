"""The kinds and commands of test_cached_states, in two versions of a program."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import eventbraid as eb

STREAMS = ("sum-0", "sum-1", "sum-2")

Seen = tuple[str, int, str, int, tuple[int, ...]]
"""A kind, the version of its fold, a stream, its version, and the state as numbers."""


class Amount(eb.Int): ...


@eb.event("cached.added")
class Added:
    """An amount; `seen` has the states that its command decided on."""

    amount: Amount
    command: str = ""
    seen: tuple[Seen, ...] = ()


def state_of(kind: str, fold: int, amounts: Iterable[int]) -> tuple[int, ...]:
    """Return the state of a kind after some amounts, as numbers."""
    scaled = tuple(fold * amount for amount in amounts)
    return (sum(scaled),) if kind == "Sum" else scaled


@dataclass(frozen=True)
class Program:
    """A version of the program: kinds whose fold has this version, and their commands."""

    fold: int
    Sum: Any
    Listing: Any
    Add: Any
    Move: Any
    FoldedMove: Any
    Look: Any

    @property
    def kinds(self) -> tuple[Any, Any]:
        return self.Sum, self.Listing

    def add(self, stream: str, amount: Amount, command: str | None = None) -> Any:
        return self.Add(target=stream, amount=amount, id=command or new_id())


_numbers = itertools.count()


def new_id() -> str:
    # Another process makes ids, too.
    return f"command-{os.getpid()}-{next(_numbers)}"


def program(fold: int) -> Program:  # noqa: C901 - all classes of a program
    """Build the classes of one version of the program."""

    class Sum(
        eb.Stream[Added, Amount], category="sum", snapshot_every=4, fold_version=fold
    ):
        def initial(self) -> Amount:
            return Amount(0)

        def apply(self, state: Amount, event: Added, /) -> Amount:
            return state + Amount(fold * int(event.amount))

    class Listing(
        eb.Stream[Added, list[int]], category="sum", snapshot_every=3, fold_version=fold
    ):
        """A second kind of the same streams, whose state is mutable."""

        def initial(self) -> list[int]:
            return []

        def apply(self, state: list[int], event: Added, /) -> list[int]:
            state.append(fold * int(event.amount))
            return state

    def seen(handle: Any) -> Seen:
        kind = handle.kind.__name__
        state = handle.state
        numbers = (int(state),) if kind == "Sum" else tuple(state)
        return kind, fold, str(handle), handle.version, numbers

    class Add(eb.Command):
        target: eb.Declared[Sum]
        amount: Amount
        id: str

        def decide(self) -> Iterator[eb.Write]:
            states = (seen(self.target),)
            eb.require(int(self.target.state) <= 40, "full", seen=states)
            yield self.target.write(Added(self.amount, self.id, states))

    class Move(eb.Command):
        """Move what one stream has to another one, with two kinds and a discovery."""

        source: eb.Declared[Listing]
        target: eb.Declared[Sum]
        id: str

        def _further(self) -> Any:
            return Sum(STREAMS[len(self.source.state) % 3])

        def discover(self) -> list[Any]:
            return [self._further()]

        def decide(self) -> Iterator[eb.Write]:
            further = self.discovered(self._further())
            states = seen(self.source), seen(self.target), seen(further)
            total = sum(self.source.state) // fold
            # The change of a copied state must have no effect on other commands.
            self.source.state.clear()
            eb.require(total > 0, "empty", seen=states)
            yield self.target.write(Added(Amount(total), self.id, states))
            yield self.source.write(Added(Amount(-total), self.id, states))

    class FoldedMove(eb.StatefulCommand[list[int], Added]):
        """Move the last amount, by a fold of its own over both streams."""

        source: eb.Declared[Sum]
        target: eb.Declared[Sum]
        id: str

        def initial(self) -> list[int]:
            return []

        def apply(self, state: list[int], recorded: eb.Recorded[Added], /) -> list[int]:
            state.append(int(recorded.event.amount))
            return state

        def decide(self, state: list[int], /) -> Iterator[eb.Write]:
            # The fold of both streams in global order, as a kind of its own.
            own: Seen = "own", 1, "", 0, tuple(state)
            states = seen(self.source), seen(self.target), own
            eb.require(bool(state), "empty", seen=states)
            last = Amount(state[-1])
            state.clear()
            yield self.source.write(Added(-last, self.id, states))
            yield self.target.write(Added(last, self.id, states))

    class Look(eb.Command):
        """Decide on nothing: the store checks the versions all the same."""

        streams: eb.DeclaredMany[Sum]

        def decide(self) -> list[eb.Write]:
            LOOKED[:] = map(seen, self.streams)
            return []

    return Program(fold, Sum, Listing, Add, Move, FoldedMove, Look)


LOOKED: list[Seen] = []
"""The states that the last `Look` has seen."""

PROGRAMS = {fold: program(fold) for fold in (1, 2)}
