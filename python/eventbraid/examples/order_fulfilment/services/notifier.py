"""The notifier: sends messages to customers, most of whom can be reached."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol

import anyio.lowlevel

from .chance import happens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..values import CustomerId, OrderId

FAILED_ATTEMPTS = 3
"""The number of attempts that fail before an unreachable customer is reached."""


class CustomerUnreachable(Exception):
    """The message could not be delivered; a later attempt may succeed."""


class Notifier(Protocol):
    """A service that sends messages to customers."""

    async def notify(
        self, customer: CustomerId, order: OrderId, text: str, *, key: str
    ) -> None:
        """Send one message; a key that was delivered is not sent again.

        Raises:
            CustomerUnreachable: It could not be delivered now.
        """
        ...


class SimulatedNotifier:
    """A `Notifier` that reaches some customers only at the fourth attempt.

    Args:
        unreachable: The share of messages that fail three times before they arrive.
        seed: The seed of the random choice of these.
    """

    def __init__(self, *, unreachable: float = 0.0, seed: int = 0) -> None:
        self._unreachable = unreachable
        self._seed = seed
        self._failed: Counter[str] = Counter()
        self._delivered: dict[str, tuple[CustomerId, OrderId, str]] = {}

    async def notify(
        self, customer: CustomerId, order: OrderId, text: str, *, key: str
    ) -> None:
        """Send one message."""
        await anyio.lowlevel.checkpoint()
        if self._failed[key] < FAILED_ATTEMPTS and happens(
            self._unreachable, self._seed, "unreachable", key
        ):
            self._failed[key] += 1
            raise CustomerUnreachable("the customer's mailbox is full")
        self._delivered.setdefault(key, (customer, order, text))

    @property
    def delivered(self) -> Mapping[str, tuple[CustomerId, OrderId, str]]:
        """The delivered messages, by key."""
        return self._delivered
