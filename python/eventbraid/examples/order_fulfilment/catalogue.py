"""Orders made from the purchases of the data set, with products and prices.

The data set has the number of CDs of each purchase and their total price. The products
are drawn here at random: the same ones for the same seed, and some products more often
than others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import ceil

from .orders import PlacedOrder
from .purchases import Purchase
from .services.chance import share
from .values import (
    CardToken,
    Country,
    CustomerId,
    LastFour,
    Line,
    Money,
    OrderId,
    OrderItem,
    PaymentMethod,
    ProductId,
    Quantity,
    ShippingAddress,
)

PRODUCTS = 500
MOST_LINES = 5

# The most popular product is ordered about four times as often as the average one.
_SKEW = 1.3

_TOWNS = (
    ("Boston", "02108"),
    ("Chicago", "60601"),
    ("Denver", "80202"),
    ("Philadelphia", "19103"),
    ("Portland", "97201"),
)


def order_id(number: int) -> OrderId:
    """Return the id of the order that is made from the n-th purchase.

    Example:
        >>> order_id(7)
        OrderId('order-cdnow-00007')
    """
    return OrderId(f"order-cdnow-{number:05d}")


@cache
def product_id(number: int) -> ProductId:
    """Return the id of a product; products are numbered from 0, most popular first."""
    return ProductId(f"product-{number:03d}")


def placed_order(purchase: Purchase, seed: int) -> PlacedOrder:
    """Build the order for a purchase.

    Args:
        purchase: Number, customer, CDs and value.
        seed: The seed of the random choice of products.
    """
    return PlacedOrder(
        order=order_id(purchase.number),
        customer=CustomerId(f"customer-{purchase.customer:05d}"),
        items=tuple(_items(purchase, seed)),
        address=_address(purchase.customer),
        method=_method(purchase.customer),
    )


def opening_stock(purchases: Sequence[Purchase]) -> Quantity:
    """Return an initial stock for each product with which some products run out.

    It is a quarter more than the demand for the average product: not enough for the
    most popular products, more than enough for the others.
    """
    average = sum(purchase.cds for purchase in purchases) / PRODUCTS
    return Quantity(ceil(1.25 * average) + 2)


def _items(purchase: Purchase, seed: int) -> list[OrderItem]:
    """Build lines of distinct products whose totals sum to the purchase's value.

    The price of a piece is the value divided by the number of pieces, rounded down. The
    remainder is added to the price of the last line, which then has a single piece.
    """
    price, remainder = divmod(purchase.cents, purchase.cds)
    products = _products(purchase, seed, fewest=2 if remainder else 1)
    quantities = _spread(purchase.cds, len(products), last_is_single=remainder > 0)
    prices = [price] * len(products)
    prices[-1] += remainder
    return [
        OrderItem(product, Quantity(quantity), Money(unit_price))
        for product, quantity, unit_price in zip(
            products, quantities, prices, strict=True
        )
    ]


def _products(purchase: Purchase, seed: int, *, fewest: int) -> list[ProductId]:
    most = min(MOST_LINES, purchase.cds)
    wanted = max(fewest, 1 + int(share(seed, "lines", purchase.number) * most))
    chosen: dict[ProductId, None] = {}
    draw = 0
    while len(chosen) < wanted:
        place = share(seed, "product", purchase.number, draw) ** _SKEW
        chosen[product_id(int(place * PRODUCTS))] = None
        draw += 1
    return list(chosen)


def _spread(pieces: int, lines: int, *, last_is_single: bool) -> list[int]:
    growing = lines - 1 if last_is_single else lines
    each, more = divmod(pieces - (lines - growing), growing)
    sizes = [each + (line < more) for line in range(growing)]
    return [*sizes, 1] if last_is_single else sizes


@cache
def _address(customer: int) -> ShippingAddress:
    town, postal_code = _TOWNS[customer % len(_TOWNS)]
    return ShippingAddress(
        name=Line(f"Customer {customer}"),
        street=Line(f"{customer % 900 + 1} Market Street"),
        city=Line(town),
        postal_code=Line(postal_code),
        country=Country("US"),
    )


@cache
def _method(customer: int) -> PaymentMethod:
    return PaymentMethod(
        token=CardToken(f"tok_{customer:05d}"),
        brand=Line("Visa" if customer % 2 else "Mastercard"),
        last_four=LastFour(f"{customer * 7919 % 10_000:04d}"),
    )
