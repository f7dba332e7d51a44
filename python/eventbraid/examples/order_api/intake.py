"""The validation of requests."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, cast

import anyio
import msgspec

import eventbraid as eb

from ..order_fulfilment.values import (
    CustomerId,
    OrderItem,
    PaymentMethod,
    ShippingAddress,
)
from .problems import Problem

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import Request

LARGEST_BODY = 64 * 1024
MOST_ITEMS = 100
MOST_KEY = 200

_LAST_POSITION = 2**63 - 1
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"')


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


def idempotency_key(headers: Headers) -> str:
    """Return the client's key for this order; a request that is repeated has the same.

    The draft standard has the key in quotes, but most clients send it without. Both
    forms are the same key.

    Raises:
        Problem: The key is missing or malformed.

    Example:
        >>> from starlette.datastructures import Headers
        >>> idempotency_key(Headers({"Idempotency-Key": '"8e03978e"'}))
        '8e03978e'
    """
    given = headers.getlist("idempotency-key")
    if not given:
        raise Problem(
            400,
            "idempotency-key-missing",
            "add a header Idempotency-Key: a new UUID for each new order, and the "
            "same one whenever you send that order again",
        )
    key = _unquoted(given[0].strip())
    if len(given) > 1 or key is None or len(key) > MOST_KEY:
        raise Problem(
            400,
            "idempotency-key-malformed",
            f"Idempotency-Key must be given once, with 1 to {MOST_KEY} visible ASCII "
            "characters, in quotes or without; a UUID is best",
        )
    return key


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


def _unquoted(text: str) -> str | None:
    if quoted := _QUOTED.fullmatch(text):
        return re.sub(r"\\(.)", r"\1", quoted[1])
    return text if _VISIBLE.fullmatch(text) and not text.startswith('"') else None


async def _body(request: Request[Any], timeout: float) -> bytes:
    with anyio.move_on_after(timeout):
        return await _whole_body(request)
    raise Problem(
        408,
        "body-too-slow",
        f"the body was not complete within {timeout:g} s; send the request again, with "
        "the same Idempotency-Key",
        close=True,
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
                    close=True,
                )
    return bytes(body)


def _value(kind: type, given: object) -> object:
    """Build one of the domain's values, which validate themselves."""
    if issubclass(kind, eb.Int | eb.Id | eb.Text):
        return cast("Any", kind)(given)
    raise NotImplementedError(f"{kind.__qualname__} cannot be read from JSON")


_decoder = msgspec.json.Decoder(WantedOrder, dec_hook=_value)
