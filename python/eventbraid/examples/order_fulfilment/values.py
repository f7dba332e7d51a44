"""The values of the domain: an invalid one can't be constructed, decoded or stored.

One order has one payment and one shipment, and one saga that fulfils it. Their ids are
the order's id with another prefix, so each follows from any other without a look-up.
"""

from __future__ import annotations

import re
from typing import Self

import eventbraid as eb

_CARD_NUMBER = re.compile(r"[0-9]{12,19}")


class OrderId(eb.Id, prefix="order"):
    """The id of an order, and of its stream."""


class CustomerId(eb.Id, prefix="customer"):
    """The id of a customer."""


class ProductId(eb.Id, prefix="product"):
    """The id of a product, and of the stream of its stock."""


class _OfOrder(eb.Id):
    @classmethod
    def of(cls, order: OrderId) -> Self:
        """Return the id of this kind that belongs to an order.

        Example:
            >>> PaymentId.of(OrderId("order-7"))
            PaymentId('payment-7')
        """
        return cls(f"{cls.prefix}-{order.removeprefix('order-')}")

    @property
    def order(self) -> OrderId:
        """The order that the id belongs to."""
        return OrderId(f"order-{self.removeprefix(f'{self.prefix}-')}")


class PaymentId(_OfOrder, prefix="payment"):
    """The id of the payment of an order, and of its stream."""


class ShipmentId(_OfOrder, prefix="shipment"):
    """The id of the shipment of an order, and of its stream."""


class SagaId(_OfOrder, prefix="saga"):
    """The id of the saga that fulfils an order, and of its stream."""


class Money(eb.Int, ge=0):
    """An amount in cents of US dollars; never negative.

    Example:
        >>> Money(1177) + Money(23)
        Money(1200)
        >>> Money(117700).dollars
        '1,177.00'
    """

    @property
    def dollars(self) -> str:
        """The amount in dollars, formatted."""
        dollars, cents = divmod(int(self), 100)
        return f"{dollars:,}.{cents:02d}"


class Quantity(eb.Int, gt=0):
    """A number of pieces; at least one."""


class Line(eb.Text, max_length=200, pattern=r"[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*"):
    """One line of text; not blank."""


class Country(eb.Text, pattern="[A-Z]{2}"):
    """A country: two capital letters (ISO 3166-1)."""


class LastFour(eb.Text, pattern="[0-9]{4}"):
    """The last four digits of a card."""


class CardToken(eb.Text, max_length=200, pattern=r"\S+"):
    """The gateway's token for a card; never the card's number.

    An event log keeps its events for good, so a card number must not get into it.

    Example:
        >>> CardToken("tok_31337")
        CardToken('tok_31337')
    """

    def __new__(cls, value: str, /) -> Self:
        """Validate a token; a text that contains a card number is refused."""
        token = super().__new__(cls, value)
        if _CARD_NUMBER.search(token.replace("-", "")):
            raise eb.InvalidValue(
                "CardToken",
                "a text with a card number in it",
                "a token must not contain the card's number",
                "exchange the number for a token at the gateway first",
            )
        return token


@eb.value_object
class OrderItem:
    """One line of an order.

    Attributes:
        product: The product.
        quantity: The number of pieces.
        unit_price: The price of one piece, in cents.
    """

    product: ProductId
    quantity: Quantity
    unit_price: Money

    @property
    def total(self) -> Money:
        """The price of all pieces of the line, in cents."""
        return self.unit_price.times(self.quantity)


@eb.value_object
class ShippingAddress:
    """The address to which an order is shipped.

    Attributes:
        name: The name of the recipient.
        street: Street and house number.
        city: Town or city.
        postal_code: The postal code, in the country's format.
        country: The country.
    """

    name: Line
    street: Line
    city: Line
    postal_code: Line
    country: Country


@eb.value_object
class PaymentMethod:
    """The method by which an order is paid: a card.

    Attributes:
        token: The gateway's token for the card.
        brand: The brand of the card, for display.
        last_four: The last four digits of the card, for display.
    """

    token: CardToken
    brand: Line
    last_four: LastFour


def total_of(items: tuple[OrderItem, ...]) -> Money:
    """Return the price of all lines, in cents."""
    return Money(sum(int(item.unit_price) * int(item.quantity) for item in items))


def pieces_in(items: tuple[OrderItem, ...]) -> Quantity:
    """Return the number of pieces of all lines.

    Raises:
        InvalidValue: There are no lines.
    """
    return Quantity(sum(int(item.quantity) for item in items))
