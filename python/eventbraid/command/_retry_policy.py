"""How often and how fast a command is tried again after a conflict."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from eventbraid.errors import InvalidArgument
from eventbraid.store._argument import argument_text
from eventbraid.store._duration import validate_duration
from eventbraid.store._paging import checked


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How a command whose streams were changed meanwhile is tried again.

    The pause before attempt n + 1 is ``first * factor ** (n - 1)``, at most ``cap``,
    with jitter. Commands of one process that conflicted on a stream then queue for it.

    Attributes:
        attempts: How often it is tried in all.
        first: The first pause.
        factor: By how much each pause is longer than the one before.
        cap: The longest pause.
        jitter: How the pause is spread: ``"full"`` from nothing to all of it,
            ``"equal"`` from half to all of it, ``"none"`` not at all.
        within: How long it may take in all; no attempt begins after that. Here and in
            the pauses, more than 100 years (`timedelta.max`) counts as 100 years.

    Raises:
        InvalidArgument: A number makes no sense.

    Example:
        >>> import eventbraid as eb
        >>> eb.RetryPolicy(attempts=5).attempts
        5
    """

    attempts: int = 10
    first: timedelta = timedelta(milliseconds=1)
    factor: float = 2.0
    cap: timedelta = timedelta(milliseconds=250)
    jitter: Literal["full", "equal", "none"] = "full"
    within: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        attempts = checked("RetryPolicy.attempts", self.attempts, minimum=1)
        object.__setattr__(self, "attempts", attempts)
        if not _is_number(self.factor) or not 1 <= self.factor < math.inf:
            raise _senseless("factor", self.factor, "it must be a number, at least 1")
        for name in ("first", "cap", "within"):
            given: object = getattr(self, name)
            length = validate_duration(f"RetryPolicy.{name}", given)
            object.__setattr__(self, name, length)
        if self.jitter not in {"full", "equal", "none"}:
            raise _senseless("jitter", self.jitter, "give full, equal or none")

    def pause(self, attempts: int) -> float:
        """Return the seconds to wait after a number of failed attempts.

        Args:
            attempts: How many there were, at least one.
        """
        cap = self.cap.total_seconds()
        first = self.first.total_seconds()
        try:
            growth = 1.0 if attempts == 1 else float(self.factor) ** (attempts - 1)
            longest = min(cap, first * growth)
        except OverflowError:
            # Beyond the largest float, and so beyond the cap; nothing times it is 0.
            longest = cap if first else 0.0
        if self.jitter == "none":
            return longest
        low = longest / 2 if self.jitter == "equal" else 0.0
        return random.uniform(low, longest)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _senseless(name: str, value: object, reason: str) -> InvalidArgument:
    return InvalidArgument(f"RetryPolicy.{name}", argument_text(value), reason)
