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


class Shipment(eb.Stream[ShipmentEvent], category="shipment"):
    """The shipment of one order."""


@dataclass(frozen=True, slots=True)
class ShipmentState:
    """The state that a shipment's commands fold.

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


def shipment_after(state: ShipmentState, event: ShipmentEvent) -> ShipmentState:
    """Fold one event into the state of a shipment."""
    match event:
        case ShipmentCreated():
            return replace(state, pieces=int(event.pieces))
        case PickupScheduled():
            return replace(state, scheduled=True)
        case ShipmentDispatched():
            return replace(state, tracking_number=event.tracking_number)
        case ShipmentCancelled():
            return replace(state, cancelled=True)


class _ShipmentCommand(eb.StatefulCommand[ShipmentState, ShipmentEvent], abstract=True):
    """Record the carrier's answer to a call, once."""

    key: str

    def initial(self) -> ShipmentState:
        return ShipmentState()

    def apply(
        self, state: ShipmentState, recorded: eb.Recorded[ShipmentEvent], /
    ) -> ShipmentState:
        return shipment_after(state, recorded.event)


class CreateShipment(_ShipmentCommand):
    """Record that the carrier created it. Rejected as `shipment_cancelled`."""

    shipment: eb.Declared[Shipment]
    pieces: Quantity
    label: str

    def decide(self, state: ShipmentState, /) -> Iterator[eb.Write]:
        eb.require(not state.cancelled, "shipment_cancelled")
        if not state.pieces:
            yield self.shipment.write(
                ShipmentCreated(self.pieces, self.label, self.key)
            )


class SchedulePickup(_ShipmentCommand):
    """Record that a pickup is scheduled. Rejected as `shipment_not_open`."""

    shipment: eb.Declared[Shipment]
    confirmation: str

    def decide(self, state: ShipmentState, /) -> Iterator[eb.Write]:
        eb.require(bool(state.pieces) and not state.cancelled, "shipment_not_open")
        if not state.scheduled:
            yield self.shipment.write(PickupScheduled(self.confirmation, self.key))


class DispatchShipment(_ShipmentCommand):
    """Record that it was dispatched. Rejected as `shipment_not_scheduled`."""

    shipment: eb.Declared[Shipment]
    tracking_number: str

    def decide(self, state: ShipmentState, /) -> Iterator[eb.Write]:
        eb.require(state.scheduled and not state.cancelled, "shipment_not_scheduled")
        if state.tracking_number is None:
            yield self.shipment.write(
                ShipmentDispatched(self.tracking_number, self.key)
            )


class CancelShipment(_ShipmentCommand):
    """Record that it was cancelled. Rejected as `shipment_dispatched`.

    A shipment that was never created can be cancelled: the request that creates it may
    still be in transit, and must find the cancellation when it arrives.
    """

    shipment: eb.Declared[Shipment]

    def decide(self, state: ShipmentState, /) -> Iterator[eb.Write]:
        eb.require(state.tracking_number is None, "shipment_dispatched")
        if not state.cancelled:
            yield self.shipment.write(ShipmentCancelled(self.key))
