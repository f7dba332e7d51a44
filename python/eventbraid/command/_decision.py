"""What a command has decided, checked and encoded; values to values, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from eventbraid.command._typing import is_covered
from eventbraid.command._write import Write
from eventbraid.domain._refusal import shown
from eventbraid.errors import (
    ConflictedStream,
    InvalidArgument,
    StreamCondition,
    UndeclaredStream,
    VersionConflict,
)
from eventbraid.event._transcribe import new_event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.command._command import Command
    from eventbraid.command._typing import EventKinds
    from eventbraid.store import Expectation, NewEvent


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be appended, and the events behind it."""

    events: tuple[object, ...]
    encoded: list[NewEvent]


def decided(
    command: Command[Any, Any],
    writes: object,
    kinds: Mapping[str, EventKinds],
    metadata: Mapping[str, str] | None,
    also: tuple[Write, ...],
) -> Decision:
    """Check what a command decided, and encode it together with further writes.

    Raises:
        CommandRejected: The decision is no.
        UndeclaredStream: It writes to a stream that it doesn't know.
        InvalidArgument: It yields something else than its own writes, or an event
            that its stream's kind doesn't have, or that isn't registered.
    """
    own = list(checked(command, writes, kinds))
    own += also
    return Decision(
        tuple(write.event for write in own),
        [
            new_event(write.stream, write.event, merged(metadata, write.metadata))
            for write in own
        ],
    )


def checked(
    command: Command[Any, Any],
    writes: object,
    kinds: Mapping[str, EventKinds],
) -> Iterable[Write]:
    """Pass on a command's writes, and refuse those that it may not make."""
    name = command.__shape__.name
    if not isinstance(writes, Iterable):
        raise InvalidArgument(
            f"decision of {name}",
            shown(writes),
            "yield writes in decide(), or return a list of them",
        )
    for write in cast("Iterable[object]", writes):
        if not isinstance(write, Write):
            raise InvalidArgument(
                f"decision of {name}",
                shown(write),
                "yield what a handle's write() gives: self.field.write(event)",
            )
        if write.stream not in kinds:
            raise UndeclaredStream(write.stream, name, kinds)
        if write.owner is not None and write.owner is not command:
            raise InvalidArgument(
                f"decision of {name}",
                write.stream,
                "it was written by the handle of another command; use self's own",
            )
        _refuse_foreign(name, write, kinds[write.stream])
        yield write


def _refuse_foreign(name: str, write: Write, kinds: EventKinds) -> None:
    event = type(write.event)
    if kinds is None or event in kinds or is_covered(event, kinds):
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
    """Give the metadata of one event: the execution's, then its own."""
    if not own:
        return metadata
    return {**metadata, **own} if metadata else own


def expectations(
    versions: Mapping[str, int], further: Mapping[str, Expectation] | None
) -> Mapping[str, Expectation]:
    """Give all that the append demands: what was read, and what the caller wants.

    Raises:
        VersionConflict: The caller wants something else of a stream that was read.
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
    """Tell whether a stream of this version is as expected."""
    match expected:
        case StreamCondition.ANY:
            return True
        case StreamCondition.EXISTS:
            return version > 0
        case StreamCondition.NO_STREAM:
            return version == 0
        case _:
            return version == expected
