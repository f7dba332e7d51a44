"""All that the shop needs of others, in one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .carrier import Carrier
    from .notifier import Notifier
    from .payment_gateway import PaymentGateway


@dataclass(frozen=True, slots=True)
class Services:
    """Whom the shop calls.

    Attributes:
        gateway: Takes money and gives it back.
        carrier: Takes shipments to customers.
        notifier: Tells customers.
    """

    gateway: PaymentGateway
    carrier: Carrier
    notifier: Notifier
