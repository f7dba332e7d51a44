"""Reading in pages, without I/O: what to ask for next, and when to stop."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from eventbraid._native import LogFilter
from eventbraid.errors import InvalidArgument, InvalidStreamId

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsIndex

    from eventbraid._native import Page

FIRST_PAGE = 64
LARGEST_PAGE = 1024
NAMES_A_PAGE = 10_000
LARGEST_NUMBER = 2**63 - 1


def checked(name: str, number: SupportsIndex, *, minimum: int = 0) -> int:
    """Return a version, position or count as a plain `int`, or refuse it by its name.

    A subclass of `int` is converted before it is compared: one that is a domain value
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
        raise InvalidArgument(name, str(plain), reason)
    return plain


class Paging:
    """The state of one read that is fetched page by page.

    The first page pins the read to the durable head; all later ones stay at it, so that
    the pages are consistent with each other and the read ends.
    """

    __slots__ = ("_left", "_size", "after", "at", "backward", "before", "done")

    def __init__(
        self, *, after: int, before: int | None, limit: int | None, backward: bool
    ) -> None:
        """Check the arguments of a read and start before its first page."""
        self.after = checked("after", after)
        self.before = None if before is None else checked("before", before)
        self.backward = backward
        self.at: int | None = None
        self._left = None if limit is None else checked("limit", limit)
        self._size = FIRST_PAGE
        self.done = self._left == 0

    def limit(self, largest: int = LARGEST_PAGE) -> int:
        """Say how many events the next page should have at most."""
        size = min(self._size, largest)
        return size if self._left is None else min(size, self._left)

    def advance(self, page: Page) -> None:
        """Go on behind a page that was read."""
        self.at = page.at
        self._size = min(self._size * 4, LARGEST_PAGE)
        if self.backward:
            self.before = page.next
        else:
            self.after = page.next
        if self._left is not None:
            self._left -= len(page.events)
        self.done = not page.more or self._left == 0


def log_filter(
    *,
    stream: str | None = None,
    prefix: str | None = None,
    category: str | None = None,
    types: Iterable[str] | None = None,
    system: bool = False,
) -> LogFilter:
    """Build the filter of a read or a subscription from its arguments.

    System streams, whose ids begin with ``$``, are left out unless `system` is true or
    one of the other arguments names them.

    Raises:
        InvalidArgument: If the types are one string instead of several, or if a text
            has no UTF-8.
        InvalidStreamId: If no stream could have this id.
        TypeError: If an argument is of another type.
    """
    if isinstance(types, str):
        reason = "give a list of event types, even for one"
        raise InvalidArgument("types", types, reason)
    wanted = None if types is None else tuple(types)
    names = (("stream", stream), ("prefix", prefix), ("category", category))
    for name, text in names:
        _refuse_surrogates(name, text)
    for text in wanted or ():
        _refuse_surrogates("event type", text)
    for _, text in names:
        system = system or names_system(text)
    return LogFilter(stream, prefix, category, wanted, system)


def names_system(text: str | None) -> bool:
    """Whether the beginning of a stream's id can only be that of a system stream."""
    return isinstance(text, str) and text.startswith("$")


def _refuse_surrogates(name: str, text: str | None) -> None:
    # What is no text at all is refused, by its type, where the filter is used.
    if not isinstance(text, str) or text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        reason = "it holds a lone surrogate, which has no UTF-8"
        refusal = InvalidStreamId if name == "stream" else InvalidArgument
        raise refusal(name, ascii(text), reason) from None
