"""The arguments of typed reads and subscriptions: which events, decoded by what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast

from eventbraid._typed_stream import TypedStream
from eventbraid.errors import InvalidArgument
from eventbraid.store._argument import argument_text

if TYPE_CHECKING:
    from eventbraid._event_types import EventTypes
    from eventbraid._typed_stream import StreamDecoder
    from eventbraid._undecoded import OnUndecodable

AnyDecoder: TypeAlias = "StreamDecoder[Any]"


def stream_source(
    stream: object,
    on_undecodable: OnUndecodable,
    registry: EventTypes | None,
) -> tuple[str, AnyDecoder | None]:
    """Return the id of the stream that is read, and the decoder of a typed read.

    Args:
        stream: The argument of `read_stream`.
        on_undecodable: The policy for undecodable events.
        registry: The registry of the store.

    Raises:
        InvalidArgument: The policy is invalid, or the read is not a typed one.
        TypeError: It is a kind of stream instead of a stream.
    """
    if _is_typed_stream(stream):
        return stream.id, stream.event_decoder(registry, on_undecodable)
    if _is_kind(stream):
        name = stream.__name__
        message = (
            f"read_stream reads one stream, and {name} is a kind of streams: give "
            f"{name}(id), or use read_all({name})"
        )
        raise TypeError(message)
    _refuse_policy(on_undecodable)
    # Whatever else it is: the engine accepts subclasses of `str` and refuses the rest.
    return cast("str", stream), None


def log_source(
    source: object,
    on_undecodable: OnUndecodable,
    registry: EventTypes | None,
    *,
    stream: str | None,
    prefix: str | None,
    category: str | None,
    system: object,
) -> tuple[str | None, str | None, AnyDecoder | None]:
    """Return the stream and the category of a read of the log, and its decoder.

    A kind is read by its category and not by the types of its events: a filter by types
    would leave out the events of unknown types before the policy could apply to them.

    Args:
        source: The first argument of `read_all` or `subscribe`.
        on_undecodable: The policy for undecodable events.
        registry: The registry of the store.
        stream: The stream of the filter.
        prefix: The prefix of the filter.
        category: The category of the filter.
        system: Whether the filter includes system streams.

    Raises:
        InvalidArgument: The policy is invalid, or there is a second choice of streams.
        TypeError: The source is something else than a kind or a typed stream.
    """
    if source is None:
        _refuse_policy(on_undecodable)
        return stream, category, None
    kind: object = source if isinstance(source, type) else type(source)
    if not _is_kind(kind):
        message = (
            "the first argument must be a kind of stream, such as Account, or one of "
            f"its streams, not {_name_of(source)}; a filter by text is given by "
            "name: stream=, prefix= or category="
        )
        raise TypeError(message)
    decoder = kind.event_decoder(registry, on_undecodable)
    others = {"stream": stream, "prefix": prefix, "category": category}
    for name, value in {**others, "system": system or None}.items():
        if value is not None:
            raise InvalidArgument(
                name,
                argument_text(value),
                f"{_name_of(source)} determines the streams; leave one of them out",
            )
    if _is_typed_stream(source):
        return source.id, None, decoder
    return None, kind.category, decoder


def _is_typed_stream(source: object) -> TypeGuard[TypedStream[Any]]:
    return isinstance(source, TypedStream)


def _is_kind(source: object) -> TypeGuard[type[TypedStream[Any]]]:
    return isinstance(source, type) and issubclass(source, TypedStream)


def _name_of(source: object) -> str:
    if isinstance(source, type):
        return source.__name__
    return repr(argument_text(source))


def _refuse_policy(on_undecodable: object) -> None:
    if on_undecodable != "raise":
        raise InvalidArgument(
            "on_undecodable",
            argument_text(on_undecodable),
            "it applies to typed reads only, and a read by text decodes nothing; give "
            "a kind of stream, or one of its streams",
        )
