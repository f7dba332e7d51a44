"""The exceptions in exception groups, which may be nested to any depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator


def exceptions_in(
    error: BaseException, *, below: tuple[type[BaseException], ...] = ()
) -> Iterator[BaseException]:
    """Iterate over an exception and, if it is a group, over all exceptions in it.

    The function doesn't recurse, because a group with 1,000 levels would exceed the
    recursion limit.

    Args:
        error: The exception.
        below: The classes of groups whose exceptions are left out.
    """
    left = [error]
    while left:
        single = left.pop()
        yield single
        if isinstance(single, BaseExceptionGroup) and not isinstance(single, below):
            group = cast("BaseExceptionGroup[BaseException]", single)
            left.extend(reversed(group.exceptions))
