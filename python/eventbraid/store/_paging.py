"""Reading in pages, without I/O: the bounds of the next page, and the end."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from eventbraid._native import Query
from eventbraid.errors import InvalidArgument
from eventbraid.store._argument import argument_text

if TYPE_CHECKING:
    from typing import SupportsIndex

    from eventbraid._native import LogFilter, Page

FIRST_PAGE = 64
LARGEST_PAGE = 1024
NAMES_A_PAGE = 10_000
LARGEST_NUMBER = 2**63 - 1
LONGEST_SHOWN = 64


def checked(name: str, number: SupportsIndex, *, minimum: int = 0) -> int:
    """Return a version, position or count as a plain `int`.

    A subclass of `int` is converted before it is compared, because a domain value
    refuses to be compared with a bare `int`.

    Raises:
        InvalidArgument: If it is below the minimum or too large for a log.
        TypeError: If it is not a whole number.
    """
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        message = f"{name} must be an int, not {type(number).__name__}"
        raise TypeError(message)
    plain = operator.index(number)
    if not minimum <= plain <= LARGEST_NUMBER:
        reason = f"it must be {minimum} to {LARGEST_NUMBER}"
        raise InvalidArgument(name, argument_text(plain), reason)
    return plain


def checked_flag(name: str, value: object) -> bool:
    """Return an argument that must be a `bool`, or numpy's.

    Raises:
        TypeError: If it is something else.
    """
    kind = type(value)
    if kind is bool or (
        kind.__module__ == "numpy" and kind.__name__ in {"bool", "bool_"}
    ):
        return bool(value)
    message = f"{name} must be a bool, not {kind.__name__}"
    raise TypeError(message)


class Paging:
    """The state of one read that is fetched page by page.

    The first page pins the read to the durable head; all later ones stay at it, so that
    the pages are consistent with each other and the read ends.

    Attributes:
        query: The events that are read.
        cursor: The place after which the next page begins; None before the first page.
        limit: The maximum number of events of the next page.
        at: The position that the read is pinned to; None before the first page.
        done: Whether there is no further page.
    """

    __slots__ = ("_left", "_size", "at", "cursor", "done", "limit", "query")

    def __init__(
        self,
        wanted: str | LogFilter,
        *,
        after: int,
        before: int | None,
        limit: int | None,
        backward: bool,
    ) -> None:
        """Validate the arguments of a read and start before its first page.

        Args:
            wanted: The id of a stream, or a filter of the log.
            after: Only events after this version or position.
            before: Only events before it.
            limit: The maximum number of events.
            backward: Whether to begin with the newest event.
        """
        # Inline for a plain int, which nearly every read has: a call less.
        is_plain = type(after) is int and 0 <= after <= LARGEST_NUMBER
        after = after if is_plain else checked("after", after)
        before = None if before is None else checked("before", before)
        is_plain = backward is True or backward is False
        backward = backward if is_plain else checked_flag("backward", backward)
        self.query = Query(wanted, after, before, backward)
        self.cursor: int | None = None
        self.at: int | None = None
        self._size = FIRST_PAGE
        self._left = None if limit is None else checked("limit", limit)
        self.limit = FIRST_PAGE if self._left is None else min(FIRST_PAGE, self._left)
        self.done = self._left == 0

    def advance(self, page: Page) -> None:
        """Move to the place after a page that was read."""
        # First: most reads are of one page, and need no next one.
        if not page.more:
            self.done = True
            return
        self.at = page.at
        self.cursor = page.next
        self._size = min(self._size * 4, LARGEST_PAGE)
        if self._left is None:
            self.limit = self._size
        else:
            self._left -= len(page.events)
            self.limit = min(self._size, self._left)
            self.done = self._left == 0


def checked_listing(prefix: object, system: object) -> tuple[str, bool]:
    """Return the prefix of a listing of streams and whether it has system streams.

    Raises:
        InvalidArgument: If the prefix has no UTF-8.
        TypeError: If an argument is of another type.
    """
    if prefix is None:
        return "", checked_flag("system", system)
    if not isinstance(prefix, str):
        message = f"prefix must be a str, not {type(prefix).__name__}"
        raise TypeError(message)
    try:
        prefix.encode()
    except UnicodeEncodeError:
        reason = "it holds a lone surrogate, which has no UTF-8"
        raise InvalidArgument("prefix", prefix[:LONGEST_SHOWN], reason) from None
    return prefix, checked_flag("system", system) or prefix.startswith("$")
