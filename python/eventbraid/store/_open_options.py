"""The options of opening a store: their defaults, and their ranges."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Literal, get_args

from eventbraid.errors import InvalidArgument
from eventbraid.store._argument import argument_text

KIB = 1024
MIB = 1024 * KIB

SMALLEST_SEGMENT = 64 * KIB
LARGEST_SEGMENT = 1024 * MIB
DEFAULT_SEGMENT_SIZE = 1 * MIB
DEFAULT_MAX_SEGMENT_SIZE = 128 * MIB
DEFAULT_CACHE_SIZE = 64 * MIB
DEFAULT_LOCK_TIMEOUT = 10.0
LONGEST_LOCK_TIMEOUT = 86_400.0

StoreMode = Literal["shared", "exclusive"]
"""Who else may have a store open: any process of this machine, or nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """The checked options of an opening."""

    create: bool
    segment_size: int
    max_segment_size: int
    cache_size: int
    read_only: bool
    mode: StoreMode
    lock_timeout: float

    def __post_init__(self) -> None:
        """Refuse what makes no store.

        Raises:
            InvalidArgument: Naming the option and its limits.
        """
        smallest = _between(
            "segment_size", self.segment_size, SMALLEST_SEGMENT, LARGEST_SEGMENT
        )
        _between("max_segment_size", self.max_segment_size, smallest, LARGEST_SEGMENT)
        _between("cache_size", self.cache_size, 0, 2**63 - 1)
        _refuse_unknown_mode(self.mode)
        _refuse_endless_wait(self.lock_timeout)


def _between(name: str, size: int, least: int, most: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"{name} must be an int, not {type(size).__name__}"
        raise TypeError(message)
    # A domain value refuses to be compared with a bare int.
    plain = operator.index(size)
    if not least <= plain <= most:
        reason = f"it must be {least} to {most} bytes"
        raise InvalidArgument(name, argument_text(plain), reason)
    return plain


def _refuse_unknown_mode(mode: str) -> None:
    if mode not in get_args(StoreMode):
        reason = 'it must be "shared" or "exclusive"'
        raise InvalidArgument("mode", argument_text(mode), reason)


def _refuse_endless_wait(timeout: float) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
        message = f"lock_timeout must be a float, not {type(timeout).__name__}"
        raise TypeError(message)
    try:
        seconds = float(timeout)
    except OverflowError:
        seconds = math.inf
    if not 0 <= seconds <= LONGEST_LOCK_TIMEOUT:
        reason = f"it must be 0 to {LONGEST_LOCK_TIMEOUT:.0f} seconds"
        raise InvalidArgument("lock_timeout", argument_text(timeout), reason)
