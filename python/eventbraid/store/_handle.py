"""One open native store, shared by its sync and its async face."""

from __future__ import annotations

import errno
import threading
import warnings
from typing import TYPE_CHECKING, Never

import anyio.to_thread

from eventbraid._native import forks
from eventbraid.errors import StoreClosed, StoreUnavailable
from eventbraid.store._fork import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid._event_types import EventTypes
    from eventbraid._native import Store


class Handle:
    """Owns a native store and warns if it is forgotten open.

    In a forked child it opens the store again at the first use. The child leaves the
    parent's native store alone: its threads exist only in the parent, and a lock that
    one of them held at the fork would never be released.
    """

    __slots__ = (
        "__weakref__",
        "_is_in_memory",
        "_open_again",
        "_opened_by",
        "_opening",
        "event_types",
        "location",
        "native",
        "open",
    )

    def __init__(
        self,
        native: Store,
        location: str,
        open_again: Callable[[], Store],
        *,
        is_in_memory: bool,
        event_types: EventTypes | None = None,
    ) -> None:
        """Take ownership of an open native store.

        Args:
            native: The store.
            location: The location for messages.
            open_again: Opens the store in a forked child.
            is_in_memory: Whether the store is lost in a forked child.
            event_types: The registry of the store's typed events.
        """
        self.native = native
        self._opened_by = forks()
        self._is_in_memory = is_in_memory
        self._open_again = open_again
        self._opening = PerProcess(threading.Lock)
        self.event_types = event_types
        self.location = location
        self.open = True

    def own(self) -> Store:
        """Return the native store of this process; open it in a forked child.

        Raises:
            EventbraidError: In a forked child, whatever opening raises.
        """
        return self.native if self._opened_by == forks() else self._own_again()

    async def own_async(self) -> Store:
        """Return the native store of this process; open it off the event loop.

        Raises:
            EventbraidError: As `own` does.
            StoreUnavailable: The system starts no thread for the opening.
        """
        if self._opened_by == forks():
            return self.native
        # Once a process: an opening goes on for other tasks if this one is cancelled.
        if self._is_in_memory:
            return self._own_again()
        has_thread = False

        def open_again() -> Store:
            nonlocal has_thread
            has_thread = True
            return self._own_again()

        try:
            return await anyio.to_thread.run_sync(open_again, abandon_on_cancel=True)
        except RuntimeError as error:
            if has_thread:
                raise
            raise StoreUnavailable(
                self.location, "start a thread for", str(error), errno.EAGAIN
            ) from error

    def begin_read(self) -> None:
        """Raise at the call of a method what its iterator would raise later.

        A generator runs nothing before its first item, so a method that returns one
        calls this first. A forked child opens the store here.

        Raises:
            StoreClosed: The store is closed.
            EventbraidError: In a forked child, whatever opening raises.
        """
        if not self.open:
            raise StoreClosed
        if self._opened_by != forks():
            self._own_again()

    def begin_async_read(self) -> None:
        """Do as `begin_read`, without the opening: it would block the event loop.

        Raises:
            StoreClosed: The store is closed, or the parent of this process has it in
                memory.
        """
        if not self.open:
            raise StoreClosed
        if self._is_in_memory and self._opened_by != forks():
            self._own_again()

    def let_go(self) -> Store | None:
        """Mark it closed; return the native store if this process has to close it."""
        self.open = False
        return self.native if self._opened_by == forks() else None

    def close(self) -> None:
        """Close the native store; waits for the appends under way."""
        native = self.let_go()
        if native is not None:
            native.close()

    def _own_again(self) -> Store:
        with self._opening.get():
            if self._opened_by == forks():
                return self.native
            self._refuse_if_closed()
            # The parent's is dropped here, which has no effect in a child.
            self.native = self._open_again()
            # After the assignment above: a thread that sees this takes no lock.
            self._opened_by = forks()
            try:
                self._refuse_if_closed()
            except StoreClosed:
                # Another thread closed the handle and found no native store to close.
                self.native.close()
                raise
            return self.native

    def _refuse_if_closed(self) -> None:
        if not self.open:
            raise StoreClosed

    def __reduce__(self) -> Never:
        """Refuse to be pickled or copied: a store is open once.

        A copy without the attributes would also fail in `__del__`.
        """
        raise TypeError(
            f"an open store ({self.location!r}) can't be pickled or copied; open it "
            "again by its path"
        )

    def __del__(self) -> None:
        """Close a forgotten store and warn about it."""
        if not self.open or self._opened_by != forks():
            return
        warnings.warn(
            f"the event store {self.location!r} was never closed; "
            "use it in a with block, or call close()",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
        self.close()

    def describe(self, face: str) -> str:
        """Return the `repr` of a face of the store."""
        state = "" if self.open else ", closed"
        return f"<{face} {self.location!r}{state}>"
