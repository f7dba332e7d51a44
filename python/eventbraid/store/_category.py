"""The streams of a category."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventbraid._typed_stream import TypedStream
from eventbraid.errors import InvalidArgument
from eventbraid.store._argument import argument_text
from eventbraid.store._paging import checked

if TYPE_CHECKING:
    from typing import SupportsIndex


@dataclass(frozen=True, slots=True)
class CategoryStreams:
    """The streams of a category as of one position.

    The order of the streams is that of their first events. So it never changes: a
    stream that is created later is the last one, and no stream is ever removed. A
    caller that has the first ``n`` streams gets the others with ``after=n``.

    Attributes:
        position: The position as of which the category was read.
        version: The version of the category: the number of its streams as of
            `position`. An append expects it with ``expect_categories``.
        streams: The ids of the streams that were asked for.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     done = store.append([("room-2", "x", b""), ("room-1", "x", b"")])
        ...     store.category_streams("room")
        CategoryStreams(position=2, version=2, streams=('room-2', 'room-1'))
    """

    position: int
    version: int
    streams: tuple[str, ...]


def category_name(source: object) -> str:
    """Return the category that a caller names, by itself or by a kind of stream.

    Raises:
        InvalidArgument: The kind has no category.
        TypeError: It is neither a text nor a kind of stream.
    """
    if isinstance(source, str):
        return source
    if isinstance(source, type) and issubclass(source, TypedStream):
        return _category_of(source)  # pyright: ignore[reportUnknownArgumentType]
    message = (
        "the category must be a str, or a kind of stream such as Account, not "
        f"{argument_text(source)}"  # pyright: ignore[reportUnknownArgumentType]
    )
    raise TypeError(message)


def _category_of(kind: type[TypedStream[Any]]) -> str:
    if not kind.category:
        raise InvalidArgument(
            "category",
            kind.__name__,
            "the class has no category; derive one with "
            f'class Account({kind.__name__}[...], category="account")',
        )
    return kind.category


def checked_bounds(
    at: SupportsIndex | None, after: SupportsIndex, limit: SupportsIndex | None
) -> tuple[int | None, int, int | None]:
    """Validate the bounds of a read of a category.

    Raises:
        InvalidArgument: A number is below 0 or too large.
        TypeError: A bound is not a whole number.
    """
    return (
        None if at is None else checked("at", at),
        checked("after", after),
        None if limit is None else checked("limit", limit),
    )
