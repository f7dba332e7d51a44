"""One open native store, shared by its sync and its async face."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING

import anyio.to_thread

from eventbraid._native import forks
from eventbraid.errors import StoreClosed
from eventbraid.store._fork import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid._native import Store


class Handle:
    """Owns a native store and warns if it is forgotten open.

    In a forked child it opens the store anew when it is first used. What the parent had
    open is left alone there: the threads behind it are the parent's, and so is every
    lock that one of them held.
    """

    __slots__ = (
        "__weakref__",
        "_open_again",
        "_opened_by",
        "_opening",
        "location",
        "native",
        "open",
    )

    def __init__(
        self, native: Store, location: str, open_again: Callable[[], Store]
    ) -> None:
        """Take over an open native store.

        Args:
            native: The store.
            location: What people know it by.
            open_again: Opens it in a forked child.
        """
        self.native = native
        self._opened_by = forks()
        self._open_again = open_again
        self._opening = PerProcess(threading.Lock)
        self.location = location
        self.open = True

    def own(self) -> Store:
        """Give the native store of this process, which may have to be opened.

        Raises:
            EventbraidError: In a forked child, whatever opening raises.
        """
        return self.native if self._opened_by == forks() else self._own_again()

    async def own_async(self) -> Store:
        """Give the native store of this process, opened off the event loop if need be.

        Raises:
            EventbraidError: As `own` does.
        """
        if self._opened_by == forks():
            return self.native
        # Once a process: what is begun goes on for the others if this task gives up.
        return await anyio.to_thread.run_sync(self._own_again, abandon_on_cancel=True)

    def let_go(self) -> Store | None:
        """Call it closed; give the native store that this process has to close."""
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
            # The parent's drops here, which does nothing in a child.
            self.native = self._open_again()
            # Only now: whoever sees this needs no lock.
            self._opened_by = forks()
            try:
                self._refuse_if_closed()
            except StoreClosed:
                # Closed by another thread, which found nothing to close.
                self.native.close()
                raise
            return self.native

    def _refuse_if_closed(self) -> None:
        if not self.open:
            raise StoreClosed

    def __del__(self) -> None:
        """Close a forgotten store, and say that it was forgotten."""
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
        """Give the text that a face shows as its `repr`."""
        state = "" if self.open else ", closed"
        return f"<{face} {self.location!r}{state}>"
