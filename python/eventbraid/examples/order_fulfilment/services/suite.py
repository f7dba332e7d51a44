"""The services that the shop calls, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .carrier import Carrier
    from .notifier import Notifier
    from .payment_gateway import PaymentGateway


@dataclass(frozen=True, slots=True)
class Services:
    """The services that the shop calls.

    Attributes:
        gateway: The payment gateway.
        carrier: The carrier of shipments.
        notifier: Sends messages to customers.
    """

    gateway: PaymentGateway
    carrier: Carrier
    notifier: Notifier
