"""Which events can't be changed once they are decoded, so that many may share one."""

from __future__ import annotations

import functools

from eventbraid._recorded import Parts, SetAside
from eventbraid._undecoded import UndecodedEvent
from eventbraid.domain._schema import is_changeable
from eventbraid.domain._schema_builder import schema_of


@functools.cache
def is_frozen_class(kind: type) -> bool:
    """Return whether a class is frozen, and all that its annotations let it hold.

    For decoded instances only, because decoding has checked the annotations.
    """
    if kind in {Parts, SetAside, UndecodedEvent}:
        return True  # The members of `Parts` have classes of their own.
    return not is_changeable(schema_of(kind))
