"""The streams that one execution of a command reads, in either form of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from eventbraid.command._command_base import CommandBase
    from eventbraid.command._decision import Decision
    from eventbraid.command._linked_append import LinkedAppend
    from eventbraid.command._port import Port
    from eventbraid.command._shared_state import SharedStates
    from eventbraid.command._typing import EventKinds
    from eventbraid.errors import VersionConflict
    from eventbraid.store import Appended


class Reading(Protocol):
    """What an execution needs of the streams that its command reads.

    Attributes:
        kinds: The streams that the command may write to, with the classes of their
            events.
        owner: The command whose handles may write.
        position: The position of the log at which the streams were read; None if no
            stream was read.
        versions: The versions that the append expects.
        categories: The versions of categories that the append expects.
    """

    kinds: dict[str, EventKinds]
    categories: dict[str, int]
    position: int | None

    @property
    def owner(self) -> CommandBase: ...

    @property
    def versions(self) -> Mapping[str, int]: ...

    def cold_streams(self) -> Iterable[str]:
        """Return the streams that only one command of the process should read."""
        ...

    async def read(
        self,
        port: Port,
        check_time: Callable[[], None],
        states: SharedStates | None,
    ) -> None:
        """Read what is new in the streams, and let the command discover further ones.

        Args:
            port: The operations of the store.
            check_time: Raises an error if the deadline has passed.
            states: The shared states of the queue in which the command waits.
        """
        ...

    def decide(self) -> Iterable[object]:
        """Return the writes on which the command decides."""
        ...

    async def confirm(self, port: Port) -> bool:
        """Return whether an exception of the command was raised on true states."""
        ...

    def note_conflict(self, conflict: VersionConflict) -> None:
        """Note the conflict of an attempt, for the next read."""
        ...

    def require(self, versions: Mapping[str, int]) -> None:
        """Note the versions that the states of the next attempt must have at least."""
        ...

    def builds_on(self, port: Port, streams: Iterable[str]) -> Mapping[str, object]:
        """Return what identifies the pending states on which the command can decide.

        Args:
            port: The operations of the store.
            streams: Contended streams.

        Returns:
            Equal values for two commands that can decide on each other's states; no
            value for a stream of which the command needs a durable state.
        """
        ...

    def link(
        self,
        port: Port,
        decision: Decision,
        key: str | None,
        awaited: Collection[str],
    ) -> LinkedAppend | None:
        """Link the append to others of the process whose outcome isn't known yet.

        Args:
            port: The operations of the store.
            decision: What is appended.
            key: The idempotency key of the append.
            awaited: Streams for which other commands of the process wait.

        Returns:
            The block in which to append; None if the append stands for itself.
        """
        ...

    async def keep(self, port: Port, decision: Decision, appended: Appended) -> None:
        """Keep the states after the command's own events, for further commands."""
        ...

    def release(self) -> None:
        """Drop what the next attempt doesn't need, before a wait."""
        ...


def declared_kinds(command: CommandBase) -> dict[str, EventKinds]:
    """Return the declared streams, each with the classes of its events."""
    kinds: dict[str, EventKinds] = {}
    for field in command.__shape__.declared:
        for stream in field.ids_of(command):
            kinds[stream] = joined(kinds.get(stream, frozenset()), field.kind.events)
    return kinds


def joined(one: EventKinds, other: EventKinds) -> EventKinds:
    """Return the event classes of a stream that was declared as two kinds."""
    return None if one is None or other is None else one | other
