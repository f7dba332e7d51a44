"""The idempotency keys of a saga's calls, which are the same after each restart."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from eventbraid.errors import InvalidArgument
from eventbraid.saga._text import shown_argument

if TYPE_CHECKING:
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._progress import Progress

MAXIMUM_KEY_BYTES = 255
# Receivers store the keys of compensations, so this suffix must never change.
_COMPENSATION = "/compensation"


@functools.lru_cache(maxsize=4096)
def _quoted(step: str) -> str:
    # Slashes are quoted, too. Otherwise the keys of different steps could be equal.
    return quote(step, safe="")


# Room for generations of four digits is enough, because each new generation of a key
# needs a person's decision.
_MAXIMUM_SUFFIX = len("/1000/compensation")


def forward_key(progress: Progress, step: str) -> str:
    """Return the key of a step's action: ``<saga>/<step>/<generation>``."""
    return f"{progress.id}/{_quoted(step)}/{progress.generations.get(step, 1)}"


def compensation_key(progress: Progress, step: str) -> str:
    """Return the key of a step's compensation."""
    generation = progress.compensation(step).generation
    return f"{progress.id}/{_quoted(step)}/{generation}{_COMPENSATION}"


def longest_key(saga_id: str, step: str) -> int:
    """Return the maximum number of bytes of a step's idempotency keys."""
    return len(saga_id.encode()) + 1 + len(_quoted(step)) + _MAXIMUM_SUFFIX


def check_saga_id(saga: Saga[object], saga_id: str) -> None:
    """Refuse an id that isn't valid, or whose keys would be too long for receivers.

    Raises:
        InvalidArgument: The id isn't printable text, begins with ``$`` or is too long.
    """
    text = cast("object", saga_id)
    if not isinstance(text, str) or not text or not text.isprintable():
        raise InvalidArgument(
            "saga id", shown_argument(text), "it must be printable text"
        )
    if saga_id.startswith("$"):
        raise InvalidArgument("saga id", saga_id, "names with $ are the library's own")
    bytes_of_key = max(longest_key(saga_id, node.name) for node in saga.steps)
    if bytes_of_key > MAXIMUM_KEY_BYTES:
        raise InvalidArgument(
            "saga id",
            saga_id[:80],
            f"the idempotency keys of its steps would have {bytes_of_key} bytes, "
            f"expected at most {MAXIMUM_KEY_BYTES}; use a shorter id, or shorter names "
            "of steps",
        )
