"""The base class of typed stream ids."""

from __future__ import annotations

import sys
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, cast

from eventbraid._typed_stream import TypedStream
from eventbraid.command._snapshot_format import SnapshotFormat
from eventbraid.command._stream_decoder import KindDecoder
from eventbraid.command._typing import (
    EventKinds,
    event_kinds,
    is_covered,
    may_be_none,
    type_arguments,
)
from eventbraid.domain._invalid_value import shown, shown_argument
from eventbraid.errors import InvalidArgument, InvalidStreamId
from eventbraid.event import EventRegistry, default_registry
from eventbraid.store._paging import checked

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar

if TYPE_CHECKING:
    from eventbraid._event_types import EventTypes
    from eventbraid._typed_stream import StreamDecoder
    from eventbraid._undecoded import OnUndecodable
    from eventbraid.event import BodyCodec

E = TypeVar("E")
S = TypeVar("S", default=None)


class Stream(TypedStream[E], Generic[E, S]):
    """The id of a stream. Each kind of streams is a class with its events and state.

    Derive a class for each kind of stream, with its events, its state and its category.
    The category is the part of the ids before the first ``-``. Only a command that
    declares or discovers a stream can write to it.

    A kind with a state defines `initial` and `apply`, which fold the stream's events.
    Both must be pure. The state should be immutable, for example a number or a frozen
    dataclass: a mutable one is copied for each command. A kind without a state leaves
    out the second type argument and both methods.

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

        A kind whose state is the number of its events:

        >>> @eb.event("doc.visit.made")
        ... class Visited: ...
        >>> class Visits(eb.Stream[Visited, int], category="visits"):
        ...     def initial(self):
        ...         return 0
        ...
        ...     def apply(self, state, event, /):
        ...         return state + 1
    """

    __slots__ = ("_id",)

    category: ClassVar[str] = ""
    events: ClassVar[EventKinds] = None
    foldable: ClassVar[set[type]] = set()
    has_state: ClassVar[bool] = False
    may_be_none: ClassVar[bool] = True
    snapshots: ClassVar[SnapshotFormat | None] = None

    def __init_subclass__(
        cls,
        *,
        category: str | None = None,
        snapshot_every: int | None = None,
        fold_version: int | None = None,
        snapshot_codec: BodyCodec | None = None,
    ) -> None:
        """Set the category of a new kind of stream, and the snapshots of its states.

        Args:
            category: The part of its ids before the first ``-``; inherited by default.
            snapshot_every: The number of events after which the state of a stream is
                recorded, so that a long stream needn't be folded from its first event
                when a process begins to use it. By default, no states are recorded.
            fold_version: The version of the fold, 1 by default. Increase it when you
                change `initial`, `apply`, an upcaster, or a default of an event's
                field: snapshots of another version are ignored. Snapshots are also
                ignored if the fields of the state, the schema versions of the kind's
                events or the set of their upcasters have changed.
            snapshot_codec: The codec of the recorded states. By default, that is the
                codec of the kind's events, because a state contains their data.

        Raises:
            TypeError: The category is invalid, a method of the fold is missing, or
                states of this type can't be recorded.
            InvalidArgument: A number is out of range, or the codec isn't one.
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
        # The classes whose instances were found to be immutable events of this kind.
        cls.foldable = set()
        cls.has_state = _defines_fold(cls, arguments)
        state = arguments[1] if len(arguments) > 1 else None
        cls.may_be_none = state is None or may_be_none(state)
        inherited = cls.snapshots
        if inherited is not None:
            # A derived kind may have another fold, so its snapshots are its own.
            snapshot_every = (
                inherited.every if snapshot_every is None else snapshot_every
            )
            fold_version = inherited.fold if fold_version is None else fold_version
            snapshot_codec = snapshot_codec or inherited.own_codec
        if snapshot_every is not None:
            if not cls.has_state:
                raise TypeError(without_state(cls))
            cls.snapshots = SnapshotFormat(
                cls,
                checked("snapshot_every", snapshot_every, minimum=1),
                checked(
                    "fold_version",
                    1 if fold_version is None else fold_version,
                    minimum=1,
                ),
                state,
                snapshot_codec,
            )
        elif fold_version is not None or snapshot_codec is not None:
            raise TypeError(
                f"{cls.__name__} has no snapshots, so it needs neither a fold_version "
                "nor a snapshot_codec; give snapshot_every, too"
            )

    def __init__(self, stream_id: str, /) -> None:
        """Validate and store the id of a stream."""
        self._id = self.checked_id(stream_id)

    @property
    def id(self) -> str:
        """The stream's id."""
        return self._id

    def initial(self) -> S:
        """Return the state before any event."""
        raise NotImplementedError(without_state(type(self)))

    def apply(self, state: S, event: E, /) -> S:
        """Return the state after one more event.

        Args:
            state: The state before the event; it must not be changed.
            event: The event.
        """
        raise NotImplementedError(without_state(type(self)))

    @classmethod
    def checked_id(cls, stream_id: object, /) -> str:
        """Validate a stream id of this kind, and return it as a `str`.

        Args:
            stream_id: The id.

        Raises:
            InvalidStreamId: The id isn't a text, or is of another category.
        """
        category = cls.checked_category()
        if not isinstance(stream_id, str):
            raise InvalidStreamId(
                "stream",
                shown_argument(stream_id),
                f"give its id as text, or as {cls.__name__}('{category}-...')",
            )
        if stream_id.partition("-")[0] != category:
            raise InvalidStreamId(
                "stream",
                stream_id,
                f"the ids of {cls.__name__} streams begin with '{category}-'",
            )
        return str.__str__(stream_id)

    @classmethod
    def checked_category(cls) -> str:
        """Return the category of the kind.

        Raises:
            TypeError: The kind has no category.
        """
        if not cls.category:
            raise TypeError(
                f"{cls.__name__} has no category; derive a class: "
                'class Account(Stream[AccountEvent], category="account")'
            )
        return cls.category

    @classmethod
    def event_decoder(
        cls, registry: EventTypes | None, on_undecodable: OnUndecodable
    ) -> StreamDecoder[E]:
        """Build the decoder of a typed read of streams of this kind.

        Args:
            registry: The registry of the store.
            on_undecodable: The policy of the read.

        Raises:
            InvalidArgument: The policy is invalid.
            TypeError: The kind has no category.
        """
        cls.checked_category()
        if not isinstance(registry, EventRegistry):
            registry = default_registry
        decoder = KindDecoder(
            cls.__name__, cls.events, registry=registry, on_undecodable=on_undecodable
        )
        return cast("StreamDecoder[E]", decoder)

    @classmethod
    def refuse_foreign_event(cls, event: object, /) -> None:
        """Raise if an event isn't one of the kind's events.

        Raises:
            InvalidArgument: The event is of another class.
        """
        found = type(event)
        if cls.events is None or is_covered(found, cls.events):
            return
        raise InvalidArgument(
            f"event of {cls.__name__}",
            shown_argument(event),
            f"{found.__name__} is not one of its events; add it to the first type "
            "argument of its Stream",
        )

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


def _defines_fold(kind: type[Stream[Any, Any]], arguments: tuple[object, ...]) -> bool:
    """Return whether a kind folds its events into a state.

    Raises:
        TypeError: One of the two methods is missing, or both although there is a state.
    """
    missing = [
        method
        for method in ("initial", "apply")
        if getattr(kind, method) is getattr(Stream, method)
    ]
    state = arguments[1] if len(arguments) > 1 else None
    has_state = state not in {None, NoneType} and not isinstance(state, TypeVar)
    if len(missing) == 1 or (missing and has_state):
        raise TypeError(
            f"{kind.__name__} lacks {' and '.join(missing)}(): a kind of stream with a "
            "state defines initial(self) and apply(self, state, event)"
        )
    return not missing


def without_state(kind: type[Stream[Any, Any]]) -> str:
    """Return the message for a state that a kind doesn't have."""
    return (
        f"{kind.__name__} has no state; define initial() and apply(), and name the "
        "state as the second type argument of Stream"
    )
