"""The errors of typed events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.errors._argument import InvalidArgument
from eventbraid.errors._base import EventbraidError

if TYPE_CHECKING:
    from collections.abc import Iterable


class EventError(EventbraidError):
    """The base of the errors of typed events.

    Example:
        >>> import eventbraid as eb
        >>> issubclass(eb.errors.UnknownEventType, eb.EventError)
        True
    """


class UnknownEventType(EventError):
    """Neither a class nor an upcaster is registered for an event type.

    Attributes:
        type: The event type.
        version: The schema version.
        stream: The stream that such an event was read from, if any.
        position: The position of that event in the log, if any.
        readable: The schema versions of the type that this program can read.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.UnknownEventType("order.opened").version
        1
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the attribute has this name in all errors
        version: int = 1,
        stream: str | None = None,
        position: int | None = None,
        *,
        readable: Iterable[int] = (),
    ) -> None:
        """Build the error from the type, and from the event that has this type."""
        self.type = type
        self.version = version
        self.stream = stream
        self.position = position
        self.readable = tuple(readable)
        is_first = version == 1 and not self.readable
        schema = "" if is_first else f" in schema version {version}"
        where = "" if stream is None else f" (in {stream!r}, position {position})"
        super().__init__(
            f"no class is registered for the event type {type!r}{schema}{where}; "
            f"{self._remedy()}, or read the event's raw data"
        )

    def _remedy(self) -> str:
        if not self.readable:
            return "import the module that defines it"
        versions = ", ".join(map(str, self.readable))
        if self.version > max(self.readable):
            return (
                f"this program reads version {versions}, so a newer program wrote the "
                "event: update this one"
            )
        return (
            f"this program reads version {versions}: register an upcaster, "
            f"@upcaster({self.type!r}, from_version={self.version})"
        )


class EventDecodeError(EventError):
    """The data of a recorded event doesn't match the class of its type.

    Attributes:
        type: The event type.
        stream: The stream's id.
        position: The event's position in the log.
        reason: The difference.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.EventDecodeError("opened", "account-a", 7, "not JSON").position
        7
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the attribute has this name in all errors
        stream: str,
        position: int,
        reason: str,
    ) -> None:
        """Build the error from the event and the reason."""
        self.type = type
        self.stream = stream
        self.position = position
        self.reason = reason
        super().__init__(
            f"the {type!r} event at position {position} in {stream!r} can't be "
            f"decoded: {reason}; its raw data can still be read"
        )


class UnknownCodec(EventDecodeError):
    """The program doesn't have the codec that encoded the body of a recorded event.

    Attributes:
        codec_id: The id of the codec, which may also name a key.
        type: The event type.
        stream: The stream's id.
        version: The version of the event in its stream.
        position: The event's position in the log.
        reason: The reason that `EventDecodeError` has.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.UnknownCodec("aes:2025", "opened", "account-a", 3, 7).codec_id
        'aes:2025'
    """

    def __init__(
        self,
        codec_id: str,
        type: str,  # noqa: A002 - the attribute has this name in all errors
        stream: str,
        version: int,
        position: int,
    ) -> None:
        """Build the error from the codec's id, and from the event that it encoded."""
        reason = (
            f"the codec {codec_id!r} encoded it (version {version} of the stream), and "
            "this program doesn't have that codec; add it with "
            "eventbraid.event.add_codec(codec)"
        )
        super().__init__(type, stream, position, reason)
        self.codec_id = codec_id
        self.version = version


class InvalidEventType(EventError, InvalidArgument):
    """An event type that isn't 1 to 255 bytes of UTF-8.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     store.append([("account-a", "", b"")])
        Traceback (most recent call last):
        eventbraid.errors.InvalidEventType: invalid event type ...
    """
