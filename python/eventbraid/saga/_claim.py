"""One coordinator a store: two in one process would drive the same sagas.

A saga's records are fenced by its stream's version, but not its calls: a second
coordinator would take the first one's call under way for one that a crash cut off.
Other processes are kept out only where the store is open with ``mode="exclusive"``.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from eventbraid.errors import CoordinatorClosed

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_lock = threading.Lock()
_claimed: MutableMapping[object, object] = weakref.WeakKeyDictionary()


def claim(store: object, coordinator: object) -> None:
    """Take a store for a coordinator.

    Raises:
        CoordinatorClosed: Another coordinator runs on the store.
    """
    with _lock:
        if _claimed.setdefault(_owner(store), coordinator) is not coordinator:
            raise CoordinatorClosed(
                "another coordinator runs on this store; give it all the sagas, "
                "or leave it first"
            )


def release(store: object, coordinator: object) -> None:
    """Give the store free, if this coordinator has it."""
    with _lock:
        if _claimed.get(_owner(store)) is coordinator:
            del _claimed[_owner(store)]


def _owner(store: object) -> object:
    """Give what the faces of one open store share."""
    return getattr(store, "_handle", store)
