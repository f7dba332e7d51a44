"""What each process has of its own, though it was forked from one that has it too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from eventbraid._native import forks

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Something that every process makes for itself when it first asks for it.

    A forked child has a copy of what its parent had, perhaps in the middle of a change,
    perhaps locked by a thread that the child has not. It leaves that copy alone.
    """

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        """Note how it is made; nothing is made yet."""
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """Return this process's own object."""
        process = forks()
        made = self._made.get(process)
        if made is None:
            # In one step: of two threads that make one each, both get the same.
            made = self._made.setdefault(process, self._make())
        return made
