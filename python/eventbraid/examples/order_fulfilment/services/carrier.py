"""The carrier: a protocol, and a simulation that fails at a rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..values import Quantity, ShipmentId
from .chance import happens
from .ledger import Entry, Request, Rule

if TYPE_CHECKING:
    from ..values import ShippingAddress
    from .network import Network


class ShippingUnavailable(Exception):
    """The carrier does not take this shipment; another attempt would fail too."""


class ShippingRefused(Exception):
    """The request is not possible, such as cancelling a dispatched shipment."""


@dataclass(frozen=True, slots=True)
class Label:
    """The carrier's label of a shipment.

    Attributes:
        shipment: The shipment.
        number: The number on its label.
        pieces: The number of pieces in it.
    """

    shipment: ShipmentId
    number: str
    pieces: Quantity


@dataclass(frozen=True, slots=True)
class Pickup:
    """The carrier will pick a shipment up.

    Attributes:
        shipment: The shipment.
        confirmation: The carrier's number for the pickup.
    """

    shipment: ShipmentId
    confirmation: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A shipment is on its way.

    Attributes:
        shipment: The shipment.
        tracking_number: Its tracking number.
    """

    shipment: ShipmentId
    tracking_number: str


class Carrier(Protocol):
    """A carrier of shipments; each key takes effect once."""

    async def create_shipment(
        self,
        shipment: ShipmentId,
        address: ShippingAddress,
        pieces: Quantity,
        *,
        key: str,
    ) -> Label:
        """Create a shipment.

        Raises:
            ShippingUnavailable: The carrier does not take it.
            ShippingRefused: The key was cancelled before.
        """
        ...

    async def schedule_pickup(self, shipment: ShipmentId, *, key: str) -> Pickup:
        """Schedule the pickup of a shipment.

        Raises:
            ShippingUnavailable: The carrier has no pickup for it.
            ShippingRefused: It was not created, or is cancelled.
        """
        ...

    async def dispatch(self, shipment: ShipmentId, *, key: str) -> Dispatch:
        """Dispatch a shipment; from then on it cannot be cancelled.

        Raises:
            ShippingRefused: No pickup is scheduled, or it is cancelled.
        """
        ...

    async def cancel(self, shipment: ShipmentId, forward_key: str, *, key: str) -> None:
        """Cancel the request that creates a shipment, even before it arrives.

        A request under `forward_key` that arrives later is refused.

        Raises:
            ShippingRefused: The shipment is dispatched.
        """
        ...


class SimulatedCarrier:
    """A `Carrier` over an unreliable network, with a ledger of its own.

    Args:
        network: The connection to the carrier's ledger, which applies `shipping_rule`.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    async def create_shipment(
        self,
        shipment: ShipmentId,
        address: ShippingAddress,
        pieces: Quantity,
        *,
        key: str,
    ) -> Label:
        """Create a shipment."""
        del address  # The simulated carrier refuses by key, not by address.
        entry = await self._send(key, "create", shipment, int(pieces))
        return Label(shipment, entry.reference, Quantity(entry.amount))

    async def schedule_pickup(self, shipment: ShipmentId, *, key: str) -> Pickup:
        """Schedule the pickup of a shipment."""
        entry = await self._send(key, "schedule", shipment)
        return Pickup(shipment, entry.reference)

    async def dispatch(self, shipment: ShipmentId, *, key: str) -> Dispatch:
        """Dispatch a shipment."""
        entry = await self._send(key, "dispatch", shipment)
        return Dispatch(shipment, entry.reference)

    async def cancel(self, shipment: ShipmentId, forward_key: str, *, key: str) -> None:
        """Cancel the request that creates a shipment, even before it arrives."""
        await self._send(key, "cancel", shipment, target=forward_key)

    async def _send(
        self,
        key: str,
        action: str,
        shipment: ShipmentId,
        amount: int = 0,
        target: str = "",
    ) -> Entry:
        entry = await self._network.send(
            Request(
                key=key, action=action, subject=shipment, amount=amount, target=target
            )
        )
        if entry.effect == "unserved":
            raise ShippingUnavailable(_UNSERVED[action])
        if entry.effect == "refused":
            raise ShippingRefused(f"{action} {shipment}: {entry.reference}")
        return entry


def shipping_rule(*, unserved: float = 0.0, seed: int = 0) -> Rule:
    """Return the rule of a carrier: its answer to a request, given earlier entries.

    Args:
        unserved: The share of shipments that it does not take, or has no pickup for
            (half of them each).
        seed: The seed of the random choice of these.
    """

    def rule(request: Request, history: Sequence[Entry]) -> Iterable[Entry]:
        if any(entry.key == request.key for entry in history):
            return ()
        if any(entry.target == request.key for entry in history):
            return (_entry(request, "refused", reference="cancelled before arrival"),)
        if request.action in _UNSERVED and happens(
            unserved / 2, seed, request.action, request.subject
        ):
            return (_entry(request, "unserved"),)
        return (_ACTIONS[request.action](request, history),)

    return rule


def _create(request: Request, history: Sequence[Entry]) -> Entry:
    return _unless_cancelled(request, history, "created")


def _schedule(request: Request, history: Sequence[Entry]) -> Entry:
    if not _has(history, "created"):
        return _entry(request, "refused", reference="it was not created")
    return _unless_cancelled(request, history, "scheduled")


def _dispatch(request: Request, history: Sequence[Entry]) -> Entry:
    if not _has(history, "scheduled"):
        return _entry(request, "refused", reference="no pickup is scheduled")
    return _unless_cancelled(request, history, "dispatched")


def _cancel(request: Request, history: Sequence[Entry]) -> Entry:
    if _has(history, "dispatched"):
        return _entry(request, "refused", reference="it is dispatched")
    return _entry(request, "cancelled")


def _unless_cancelled(request: Request, history: Sequence[Entry], effect: str) -> Entry:
    if _has(history, "cancelled"):
        return _entry(request, "refused", reference="the shipment is cancelled")
    pieces = sum(e.amount for e in history if e.effect == "created")
    return _entry(request, effect, request.amount or pieces)


def _has(history: Sequence[Entry], effect: str) -> bool:
    return any(entry.effect == effect for entry in history)


def _entry(
    request: Request, effect: str, amount: int = 0, reference: str = ""
) -> Entry:
    return Entry(
        request.key,
        effect,
        request.subject,
        amount,
        request.target,
        reference or f"{_NUMBERS[effect]}-{request.subject.partition('-')[2]}",
    )


_NUMBERS = {
    "cancelled": "CANC",
    "created": "LABEL",
    "dispatched": "TRACK",
    "scheduled": "PICKUP",
    "unserved": "NO",
}
_UNSERVED = {
    "create": "the carrier does not serve this address",
    "schedule": "the carrier has no pickup left",
}
_ACTIONS: dict[str, Callable[[Request, Sequence[Entry]], Entry]] = {
    "create": _create,
    "schedule": _schedule,
    "dispatch": _dispatch,
    "cancel": _cancel,
}
