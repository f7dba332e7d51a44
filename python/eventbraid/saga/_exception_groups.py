"""The exceptions inside of exception groups, which may be nested to any depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator


def exceptions_in(
    error: BaseException, *, below: tuple[type[BaseException], ...] = ()
) -> Iterator[BaseException]:
    """Iterate over an exception, and over all those inside of it if it is a group.

    Without recursion, because a group of 1,000 levels would exceed its limit.

    Args:
        error: The exception.
        below: The classes whose groups aren't looked into.
    """
    left = [error]
    while left:
        single = left.pop()
        yield single
        if isinstance(single, BaseExceptionGroup) and not isinstance(single, below):
            group = cast("BaseExceptionGroup[BaseException]", single)
            left.extend(reversed(group.exceptions))
