"""Links the append of a command to those before it on contended streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid._native import PendingAppend
from eventbraid.store._pending_append import append_as, reset_append

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Token
    from typing import Self

    from eventbraid.command._cached_state import FoldedState
    from eventbraid.command._state_cache import StateCache
    from eventbraid.store import NewEvent
    from eventbraid.store._pending_append import UsedAppend


class LinkedAppend:
    """A block that makes one append, on whose states further commands may decide.

    Attributes:
        is_published: Whether other commands can decide on all of the states.
    """

    __slots__ = (
        "_events",
        "_folded",
        "_is_alone",
        "_pending",
        "_states",
        "_token",
        "is_published",
    )

    def __init__(
        self,
        cache: StateCache,
        generation: int,
        folded: Sequence[FoldedState],
        builds_on: Sequence[PendingAppend],
        events: list[NewEvent],
    ) -> None:
        """Publish the states.

        Args:
            cache: The cache of the executor.
            generation: The generation of the registry before the states were looked up.
            folded: The states after the events that are appended; none if the append
                has an idempotency key, because its result may be an earlier one.
            builds_on: The appends on whose states the command has decided.
            events: The events that are appended, as the very list that is passed to
                `append`.
        """
        self._states = cache.pending
        self._events = events
        self._folded = folded
        self._is_alone = not builds_on
        self._pending = PendingAppend(builds_on)
        self.is_published = self._states.publish(folded, self._pending, generation)

    def __enter__(self) -> Self:
        """Let the append of the events in this task or thread be the linked one."""
        self._token: Token[UsedAppend | None] = append_as((self._events, self._pending))
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        """Withdraw the states if the append has failed or was interrupted."""
        reset_append(self._token)
        if raised is not None:
            self.end()

    def end(self) -> None:
        """Withdraw the states: they are in the cache, or the append has failed."""
        self._states.withdraw(self._folded, self._pending, is_alone=self._is_alone)
