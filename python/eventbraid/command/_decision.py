"""Validates and encodes the decision of a command, without input or output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from eventbraid.command._provenance import mark_raised_by_command
from eventbraid.command._typing import is_covered
from eventbraid.command._write import EncodedWrite, Write
from eventbraid.domain._invalid_value import shown_argument
from eventbraid.errors import (
    ConflictedStream,
    InvalidArgument,
    LimitExceeded,
    StreamCondition,
    UndeclaredStream,
    VersionConflict,
)
from eventbraid.event._transcribe import new_event
from eventbraid.store import NewEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from eventbraid.command._command_base import CommandBase
    from eventbraid.command._typing import EventKinds
    from eventbraid.event import EventRegistry
    from eventbraid.store import Expectation

COMMIT_BYTES_LIMIT = 16 * 2**20
"""The maximum size of the bodies of one commit, in bytes."""

COMMIT_EVENTS_LIMIT = 32 * 2**20 // 40
"""The maximum number of events of one commit; a frame takes 40 bytes for each."""

_WRITES_A_CHECK = 64

_END = object()


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The events of a decision, typed and encoded."""

    events: tuple[object, ...]
    encoded: list[NewEvent]


def decided(
    command: CommandBase,
    writes: Iterable[object],
    kinds: Mapping[str, EventKinds],
    metadata: Mapping[str, str] | None,
    also: tuple[Write, ...],
    check_time: Callable[[], None],
    registry: EventRegistry,
) -> Decision:
    """Validate the writes of a command, and encode them with further writes.

    Each write is encoded when it is yielded. So an endless generator is refused as soon
    as it exceeds the limits of a commit.

    Args:
        command: The command.
        writes: The result of its `decide`.
        kinds: The streams that it may write to, with the classes of their events.
        metadata: The metadata of all events.
        also: Further writes.
        check_time: Raises an error if the deadline has passed.
        registry: The registry of the events' classes.

    Raises:
        CommandRejected: The command is rejected.
        UndeclaredStream: It writes to a stream that it neither declared nor discovered.
        InvalidArgument: It yields something that isn't one of its own writes, or an
            event that isn't registered or isn't an event of the stream's kind.
        LimitExceeded: The writes exceed the limits of one commit.
    """
    if not hasattr(writes, "__iter__"):
        raise InvalidArgument(
            f"decision of {command.__shape__.name}",
            shown_argument(writes),
            "yield writes in decide(), or return a list of them",
        )
    events: list[object] = []
    encoded: list[NewEvent] = []
    size = 0
    own: Iterator[object] = iter(writes)
    further = iter(also)
    while True:
        try:
            yielded = next(own, _END)
        except Exception as error:
            mark_raised_by_command(error)
            raise
        if yielded is _END:
            write = next(further, None)
            if write is None:
                return Decision(tuple(events), encoded)
        else:
            write = checked(command, yielded, kinds)
        if isinstance(write, EncodedWrite):
            new = write.encoded
        else:
            added = write.metadata
            new = new_event(
                write.stream,
                write.event,
                metadata=merged(metadata, added) if added else metadata,
                registry=registry,
                original_time=write.original_time,
            )
        size += len(new.data)
        events.append(write.event)
        encoded.append(new)
        if size > COMMIT_BYTES_LIMIT:
            raise LimitExceeded("bytes of a commit", size, COMMIT_BYTES_LIMIT)
        if len(events) > COMMIT_EVENTS_LIMIT:
            raise LimitExceeded("events of a commit", len(events), COMMIT_EVENTS_LIMIT)
        if len(events) % _WRITES_A_CHECK == 0:
            check_time()


def checked(
    command: CommandBase, write: object, kinds: Mapping[str, EventKinds]
) -> Write:
    """Return a write that a command has yielded, if the command may make it.

    Raises:
        InvalidArgument: It isn't a write, or not of this command, or its event isn't
            one of the stream's kind.
        UndeclaredStream: Its stream was neither declared nor discovered.
    """
    name = command.__shape__.name
    if not isinstance(write, Write):
        raise InvalidArgument(
            f"decision of {name}",
            shown_argument(write),
            "yield the result of a handle's write(): self.field.write(event)",
        )
    if write.stream not in kinds:
        raise UndeclaredStream(write.stream, name, kinds)
    if write.owner is not None and write.owner is not command:
        raise InvalidArgument(
            f"decision of {name}",
            write.stream,
            "it was written by the handle of another command; use self's own",
        )
    allowed = kinds[write.stream]
    if allowed is not None and type(write.event) not in allowed:
        _refuse_foreign(name, write, allowed)
    return write


def _refuse_foreign(name: str, write: Write, kinds: frozenset[type]) -> None:
    event = type(write.event)
    if is_covered(event, kinds):
        return
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InvalidArgument(
        f"decision of {name}",
        event.__name__,
        f"the stream {write.stream!r} holds only {names}",
    )


def merged(
    metadata: Mapping[str, str] | None, own: Mapping[str, str] | None
) -> Mapping[str, str] | None:
    """Return the metadata of one event; its own values replace the execution's."""
    if not own:
        return metadata
    return {**metadata, **own} if metadata else own


def expectations(
    versions: Mapping[str, int], further: Mapping[str, Expectation] | None
) -> Mapping[str, Expectation]:
    """Return all expectations of the append: the versions that were read, and further.

    Raises:
        VersionConflict: The caller expects another version of a stream that was read.
    """
    if not further:
        return versions
    failures = [
        ConflictedStream(stream, expected, versions[stream])
        for stream, expected in further.items()
        if stream in versions and not holds(expected, versions[stream])
    ]
    if failures:
        raise VersionConflict(failures)
    return {**further, **versions}


def holds(expected: Expectation, version: int) -> bool:
    """Return whether a stream with a version meets an expectation."""
    match expected:
        case StreamCondition.ANY:
            return True
        case StreamCondition.EXISTS:
            return version > 0
        case StreamCondition.NO_STREAM:
            return version == 0
        case _:
            return version == expected
