"""One open native store, shared by its sync and its async face."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbraid._native import Store


class Handle:
    """Owns a native store and warns if it is forgotten open."""

    __slots__ = ("__weakref__", "location", "native", "open")

    def __init__(self, native: Store, location: str) -> None:
        """Take over an open native store."""
        self.native = native
        self.location = location
        self.open = True

    def close(self) -> None:
        """Close the native store; waits for the appends under way."""
        self.open = False
        self.native.close()

    def __del__(self) -> None:
        """Close a forgotten store, and say that it was forgotten."""
        if not self.open:
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
