"""The validation of requests."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, cast

import anyio
import msgspec

import eventbraid as eb
from eventbraid.web import Problem

from ..order_fulfilment.values import (
    CustomerId,
    OrderItem,
    PaymentMethod,
    ShippingAddress,
)

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import Request

LARGEST_BODY = 64 * 1024
MOST_ITEMS = 100

_LAST_POSITION = 2**63 - 1
# The rest of such a request is still to arrive, and no code reads it.
_CLOSE = {"Connection": "close"}


class WantedOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /orders`.

    The demo's purchases have no price list, so each item has its price. A shop with a
    price list would look prices up, and never trust a client's.

    Attributes:
        customer: The customer. A shop with accounts would take it from the login.
        items: The products, with quantities and prices.
        address: The shipping address.
        method: The payment method.
    """

    customer: CustomerId
    items: Annotated[
        tuple[OrderItem, ...], msgspec.Meta(min_length=1, max_length=MOST_ITEMS)
    ]
    address: ShippingAddress
    method: PaymentMethod


async def wanted_order(request: Request[Any], body_timeout: float) -> WantedOrder:
    """Return the order in a request's body.

    Args:
        request: The request.
        body_timeout: Seconds within which the whole body must arrive.

    Raises:
        Problem: The body is too large or too slow, not JSON, or not an order.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if media_type.strip().lower() != "application/json":
        raise Problem(
            415,
            "not-json",
            f"the body's Content-Type is {media_type!r}; send application/json",
        )
    return parsed_order(await _body(request, body_timeout))


def parsed_order(body: bytes) -> WantedOrder:
    """Decode the order in a body.

    Raises:
        Problem: The body is not JSON, or not an order.
    """
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Problem(422, "not-an-order", f"it is not an order: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "not-json", f"the body is not JSON: {error}") from error


def last_event_id(headers: Headers) -> int:
    """Return the position of the last event that a client received; 0 for none.

    Raises:
        Problem: It is not a position.

    Example:
        >>> from starlette.datastructures import Headers
        >>> last_event_id(Headers({"Last-Event-ID": "17"}))
        17
    """
    given = headers.get("last-event-id", "0")
    if given.isascii() and given.isdigit() and len(given) < 20:  # noqa: PLR2004
        position = int(given)
        if position <= _LAST_POSITION:
            return position
    raise unknown_event(given)


def unknown_event(given: object) -> Problem:
    """Build the refusal of an event id that no event of the stream has."""
    return Problem(
        400,
        "unknown-event-id",
        f"Last-Event-ID is {given!r:.40}, which is not the id of an event of this "
        "order; leave out the header to receive all events",
    )


async def _body(request: Request[Any], timeout: float) -> bytes:
    with anyio.move_on_after(timeout):
        return await _whole_body(request)
    raise Problem(
        408,
        "body-too-slow",
        f"the body was not complete within {timeout:g} s; send the request again, with "
        "the same Idempotency-Key",
        headers=_CLOSE,
    )


async def _whole_body(request: Request[Any]) -> bytes:
    body = bytearray()
    async with aclosing(request.stream()) as parts:
        async for part in parts:
            body += part
            if len(body) > LARGEST_BODY:
                raise Problem(
                    413,
                    "body-too-large",
                    f"the body has more than {LARGEST_BODY} bytes; split the order",
                    headers=_CLOSE,
                )
    return bytes(body)


def _value(kind: type, given: object) -> object:
    """Build one of the domain's values, which validate themselves."""
    if issubclass(kind, eb.Int | eb.Id | eb.Text):
        return cast("Any", kind)(given)
    raise NotImplementedError(f"{kind.__qualname__} cannot be read from JSON")


_decoder = msgspec.json.Decoder(WantedOrder, dec_hook=_value)
