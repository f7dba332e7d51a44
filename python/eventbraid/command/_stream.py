"""The base class of typed stream ids."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from eventbraid.command._typing import EventKinds, event_kinds, type_arguments
from eventbraid.domain._invalid_value import shown
from eventbraid.errors import InvalidStreamId

E = TypeVar("E")


class Stream(Generic[E]):
    """The id of a stream of one kind, which has its own types of events.

    Derive a class for each kind of stream, with its events and its category. The
    category is the part of the ids before the first ``-``. Only a command that declares
    or discovers a stream can write to it.

    Args:
        stream_id: The stream's id.

    Raises:
        InvalidStreamId: The id is of another category.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.account.closed")
        ... class Closed: ...
        >>> class Account(eb.Stream[Closed], category="account"): ...
        >>> Account("account-alice")
        Account('account-alice')
        >>> Account("order-1")
        Traceback (most recent call last):
        ...
        eventbraid.errors.InvalidStreamId: invalid stream 'order-1': ...
    """

    __slots__ = ("_id",)

    category: ClassVar[str] = ""
    events: ClassVar[EventKinds] = None

    def __init_subclass__(cls, *, category: str | None = None) -> None:
        """Set the category of a new kind of stream.

        Args:
            category: The part of its ids before the first ``-``; inherited by default.
        """
        super().__init_subclass__()
        if category is not None:
            if not _is_category(category):
                raise TypeError(
                    f"{shown(category)} is not a valid category of {cls.__name__}: it "
                    "must be the part of a stream id before the first '-', "
                    "and not empty"
                )
            cls.category = category
        arguments = type_arguments(cls, Stream)
        cls.events = event_kinds(arguments[0]) if arguments else None

    def __init__(self, stream_id: str, /) -> None:
        """Validate and store the id of a stream."""
        self._id = self.checked_id(stream_id)

    @property
    def id(self) -> str:
        """The stream's id."""
        return self._id

    @classmethod
    def checked_id(cls, stream_id: object, /) -> str:
        """Validate a stream id of this kind, and return it as a `str`.

        Args:
            stream_id: The id.

        Raises:
            InvalidStreamId: The id isn't a text, or is of another category.
        """
        category = cls.category
        if not category:
            raise TypeError(
                f"{cls.__name__} has no category; derive a class: "
                'class Account(Stream[AccountEvent], category="account")'
            )
        if not isinstance(stream_id, str):
            raise InvalidStreamId(
                "stream",
                shown(stream_id),
                f"give its id as text, or as {cls.__name__}('{category}-...')",
            )
        if stream_id.partition("-")[0] != category:
            raise InvalidStreamId(
                "stream",
                stream_id,
                f"the ids of {cls.__name__} streams begin with '{category}-'",
            )
        return str.__str__(stream_id)

    def __eq__(self, other: object, /) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return other.id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __str__(self) -> str:
        return self._id

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._id!r})"


def _is_category(category: object) -> bool:
    return isinstance(category, str) and category != "" and "-" not in category
