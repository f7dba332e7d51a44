"""The states of contended streams after commands whose append isn't durable yet.

When a command on a contended stream appends its events, the state after these events is
published here at once. The next command decides on it without waiting for the disk, and
its append builds on the first one: the engine refuses it if the first one is refused.
So commands on one stream share a write and a sync, as commands on different streams do.

Such a state is only for commands. `load` and rejections report durable states: what is
not durable may still be undone by a loss of power.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from eventbraid.command._cached_state import NO_STATE
from eventbraid.command._immutable import is_immutable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eventbraid._native import PendingAppend
    from eventbraid.command._cached_state import CachedState, FoldedState, Kind

    PendingState: TypeAlias = tuple[CachedState, PendingAppend, int]

CONTENDED_LIMIT = 4_096
"""The maximum number of streams that count as contended."""

LONE_APPENDS = 16
"""The number of appends, one after another and each without a second one at the same
time, after which a stream no longer counts as contended."""


class PendingStates:
    """The newest states of contended streams, durable or not.

    Attributes:
        contended: Streams on which commands have conflicted or waited for each other,
            with the number of lone appends since then. Only their states are published,
            because that takes some time for each command.
        entries: The states by kind and stream, each with the append that it is part of
            and the generation of the registry in which it was folded. There are no more
            than appends that wait for the disk.
    """

    __slots__ = ("contended", "entries")

    def __init__(self) -> None:
        """Begin without states."""
        self.contended: dict[str, int] = {}
        self.entries: dict[tuple[Kind, str], PendingState] = {}

    def note_contention(self, streams: Iterable[str]) -> None:
        """Note that commands conflict on these streams, or wait for each other."""
        if len(self.contended) >= CONTENDED_LIMIT:
            # A stream that is still contended is added again at the next conflict.
            self.contended = {}
        self.contended.update(dict.fromkeys(streams, 0))

    def is_contended(self, streams: Iterable[str]) -> bool:
        """Return whether one of the streams counts as contended."""
        return not self.contended.keys().isdisjoint(streams)

    def find(
        self, kind: Kind, stream: str, generation: int, cached: CachedState | None
    ) -> PendingState | None:
        """Return a stream's state, and the append on which a decision would build.

        Args:
            kind: The stream's kind.
            stream: The stream's id.
            generation: The generation of the registry in which the command decides.
            cached: The state in the cache, if there is one.
        """
        found = self.entries.get((kind, stream))
        if found is None:
            return None
        state, pending, folded_in = found
        if (
            folded_in != generation
            or pending.is_refused
            # The task or thread that made the append was given up before it could
            # withdraw the state, and the stream has newer events.
            or (cached is not None and cached[0] > state[0] and pending.is_durable)
        ):
            self.drop(kind, stream, pending)
            return None
        return found

    def publish(
        self, states: Sequence[FoldedState], pending: PendingAppend, generation: int
    ) -> bool:
        """Let further commands decide on states that are appended now.

        Args:
            states: The states.
            pending: The append.
            generation: The generation of the registry before the states were looked up.

        Returns:
            Whether there are states, and all of them can be shared. A state that can
            be changed would have to be copied for each command.
        """
        is_complete = bool(states)
        for folded in states:
            kind, stream, found, count, state, _ = folded
            if state is not NO_STATE and is_immutable(state, found[2] and found[1]):
                entry = (found[0] + count, state, True, found[3], found[4])
                self.entries[kind, stream] = (entry, pending, generation)
            else:
                is_complete = False
        return is_complete

    def withdraw(
        self,
        states: Iterable[FoldedState],
        pending: PendingAppend,
        *,
        is_alone: bool = False,
    ) -> None:
        """Remove states whose append has ended, unless a newer one was published.

        Args:
            states: The states.
            pending: The append.
            is_alone: Whether the append has built on no other one.

        """
        for folded in states:
            if self.drop(folded[0], folded[1], pending) and is_alone:
                self._note_lone_append(folded[1])

    def drop(self, kind: Kind, stream: str, pending: PendingAppend) -> bool:
        """Remove the state of a stream if it is that of an append.

        Another thread may publish a newer state between the comparison and the removal.
        Then the next command decides on the cached state, and has a conflict.

        Returns:
            Whether it was removed.
        """
        found = self.entries.get((kind, stream))
        if found is None or found[1] is not pending:
            return False
        self.entries.pop((kind, stream), None)
        return True

    def _note_lone_append(self, stream: str) -> None:
        count = self.contended.get(stream)
        if count is None:
            return
        if count < LONE_APPENDS:
            self.contended[stream] = count + 1
        else:
            self.contended.pop(stream, None)

    def clear(self) -> None:
        """Remove all states."""
        self.entries = {}
