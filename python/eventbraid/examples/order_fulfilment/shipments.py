"""Shipments: created, picked up, dispatched; or cancelled before that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import eventbraid as eb

from .values import Quantity


@eb.event("shipment.created")
class ShipmentCreated:
    """The carrier created the shipment.

    Attributes:
        pieces: The number of pieces in it.
        label: The number on its label.
        key: The idempotency key of the call.
    """

    pieces: Quantity
    label: str
    key: str


@eb.event("shipment.pickup_scheduled")
class PickupScheduled:
    """The carrier will pick the shipment up.

    Attributes:
        confirmation: The carrier's number for the pickup.
        key: The idempotency key of the call.
    """

    confirmation: str
    key: str


@eb.event("shipment.dispatched")
class ShipmentDispatched:
    """The shipment is on its way.

    Attributes:
        tracking_number: Its tracking number.
        key: The idempotency key of the call.
    """

    tracking_number: str
    key: str


@eb.event("shipment.cancelled")
class ShipmentCancelled:
    """The shipment was cancelled.

    Attributes:
        key: The idempotency key of the call.
    """

    key: str


ShipmentEvent = (
    ShipmentCreated | PickupScheduled | ShipmentDispatched | ShipmentCancelled
)


@dataclass(frozen=True, slots=True)
class ShipmentState:
    """The state of a shipment.

    Attributes:
        pieces: The number of pieces in it; 0 before it is created.
        scheduled: Whether a pickup is scheduled.
        tracking_number: Its tracking number, once it is dispatched.
        cancelled: Whether it was cancelled.
    """

    pieces: int = 0
    scheduled: bool = False
    tracking_number: str | None = None
    cancelled: bool = False


class Shipment(eb.Stream[ShipmentEvent, ShipmentState], category="shipment"):
    """The shipment of one order."""

    def initial(self) -> ShipmentState:
        return ShipmentState()

    def apply(self, state: ShipmentState, event: ShipmentEvent, /) -> ShipmentState:
        match event:
            case ShipmentCreated(pieces):
                return replace(state, pieces=int(pieces))
            case PickupScheduled():
                return replace(state, scheduled=True)
            case ShipmentDispatched(tracking_number):
                return replace(state, tracking_number=tracking_number)
            case ShipmentCancelled():
                return replace(state, cancelled=True)


class CreateShipment(eb.Command):
    """Record that the carrier created it, once. Rejected as `shipment_cancelled`."""

    shipment: eb.Declared[Shipment]
    key: str
    pieces: Quantity
    label: str

    def decide(self) -> Iterator[eb.Write]:
        state = self.shipment.state
        eb.require(not state.cancelled, "shipment_cancelled")
        if not state.pieces:
            yield self.shipment.write(
                ShipmentCreated(self.pieces, self.label, self.key)
            )


class SchedulePickup(eb.Command):
    """Record that a pickup is scheduled, once. Rejected as `shipment_not_open`."""

    shipment: eb.Declared[Shipment]
    key: str
    confirmation: str

    def decide(self) -> Iterator[eb.Write]:
        state = self.shipment.state
        eb.require(bool(state.pieces) and not state.cancelled, "shipment_not_open")
        if not state.scheduled:
            yield self.shipment.write(PickupScheduled(self.confirmation, self.key))


class DispatchShipment(eb.Command):
    """Record that it was dispatched, once. Rejected as `shipment_not_scheduled`."""

    shipment: eb.Declared[Shipment]
    key: str
    tracking_number: str

    def decide(self) -> Iterator[eb.Write]:
        state = self.shipment.state
        eb.require(state.scheduled and not state.cancelled, "shipment_not_scheduled")
        if state.tracking_number is None:
            yield self.shipment.write(
                ShipmentDispatched(self.tracking_number, self.key)
            )


class CancelShipment(eb.Command):
    """Record that it was cancelled, once. Rejected as `shipment_dispatched`.

    A shipment that was never created can be cancelled: the request that creates it may
    still be in transit, and must find the cancellation when it arrives.
    """

    shipment: eb.Declared[Shipment]
    key: str

    def decide(self) -> Iterator[eb.Write]:
        state = self.shipment.state
        eb.require(state.tracking_number is None, "shipment_dispatched")
        if not state.cancelled:
            yield self.shipment.write(ShipmentCancelled(self.key))
