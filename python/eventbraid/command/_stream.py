"""Typed stream ids."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from eventbraid.command._typing import EventKinds, event_kinds, type_arguments
from eventbraid.errors import InvalidStreamId

E = TypeVar("E")


class Stream(Generic[E]):
    """The id of a stream that holds events of certain types. It can't write.

    Derive a class for each kind of stream, with its events and its category: what
    stands before the first ``-`` of its ids.

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
            category: What its ids begin with, without the ``-``; inherited if not
                given.
        """
        super().__init_subclass__()
        if category is not None:
            if not category or "-" in category:
                raise TypeError(
                    f"{category!r} can't be the category of {cls.__name__}: "
                    "it is what stands before the first '-' of a stream id"
                )
            cls.category = category
        arguments = type_arguments(cls, Stream)
        cls.events = event_kinds(arguments[0]) if arguments else None

    def __init__(self, stream_id: str, /) -> None:
        """Name one stream of this kind."""
        self._id = self.checked_id(stream_id)

    @property
    def id(self) -> str:
        """The stream's id."""
        return self._id

    @classmethod
    def checked_id(cls, stream_id: object, /) -> str:
        """Validate a stream id of this kind, and return it as a bare `str`.

        Args:
            stream_id: What should be one.

        Raises:
            InvalidStreamId: It is no text, or of another category.
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
                repr(stream_id),
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
