"""Validates and encodes the decision of a command, without input or output."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from eventbraid.command._provenance import mark_raised_by_command
from eventbraid.command._typing import is_covered
from eventbraid.command._write import EncodedWrite, Write
from eventbraid.domain._invalid_value import shown
from eventbraid.errors import (
    ConflictedStream,
    InvalidArgument,
    LimitExceeded,
    StreamCondition,
    UndeclaredStream,
    VersionConflict,
)
from eventbraid.event._transcribe import new_event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eventbraid.command._command import Command
    from eventbraid.command._typing import EventKinds
    from eventbraid.event import EventRegistry
    from eventbraid.store import Expectation, NewEvent

COMMIT_BYTES_LIMIT = 16 * 2**20
"""The maximum size of the bodies of one commit, in bytes."""

COMMIT_EVENTS_LIMIT = 32 * 2**20 // 40
"""The maximum number of events of one commit; a frame takes 40 bytes for each."""

_WRITES_A_CHECK = 64


@dataclass(frozen=True, slots=True)
class Decision:
    """The events of a decision, typed and encoded."""

    events: tuple[object, ...]
    encoded: list[NewEvent]


def decided(
    command: Command[Any, Any],
    writes: object,
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
    events: list[object] = []
    encoded: list[NewEvent] = []
    size = 0
    own = checked(command, writes, kinds)
    for count, write in enumerate(itertools.chain(own, also) if also else own, 1):
        if isinstance(write, EncodedWrite):
            new = write.encoded
        else:
            added = write.metadata
            new = new_event(
                write.stream,
                write.event,
                metadata=merged(metadata, added) if added else metadata,
                registry=registry,
            )
        size += len(new.data)
        if size > COMMIT_BYTES_LIMIT:
            raise LimitExceeded("bytes of a commit", size, COMMIT_BYTES_LIMIT)
        if count > COMMIT_EVENTS_LIMIT:
            raise LimitExceeded("events of a commit", count, COMMIT_EVENTS_LIMIT)
        events.append(write.event)
        encoded.append(new)
        if count % _WRITES_A_CHECK == 0:
            check_time()
    return Decision(tuple(events), encoded)


def checked(
    command: Command[Any, Any],
    writes: object,
    kinds: Mapping[str, EventKinds],
) -> Iterable[Write]:
    """Iterate over a command's writes, and refuse those that aren't allowed."""
    name = command.__shape__.name
    if not isinstance(writes, Iterable):
        raise InvalidArgument(
            f"decision of {name}",
            shown(writes),
            "yield writes in decide(), or return a list of them",
        )
    try:
        for write in cast("Iterable[object]", writes):
            if not isinstance(write, Write):
                raise InvalidArgument(  # noqa: TRY301 - the mark makes no difference to it
                    f"decision of {name}",
                    shown(write),
                    "yield the result of a handle's write(): self.field.write(event)",
                )
            if write.stream not in kinds:
                raise UndeclaredStream(write.stream, name, kinds)  # noqa: TRY301 - as above
            if write.owner is not None and write.owner is not command:
                raise InvalidArgument(  # noqa: TRY301 - the mark makes no difference to it
                    f"decision of {name}",
                    write.stream,
                    "it was written by the handle of another command; use self's own",
                )
            allowed = kinds[write.stream]
            if allowed is not None and type(write.event) not in allowed:
                _refuse_foreign(name, write, allowed)
            yield write
    except Exception as error:
        mark_raised_by_command(error)
        raise


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
