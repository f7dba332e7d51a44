"""The saga that fulfils an order: its steps and their compensations.

| failure | consequence |
|---|---|
| the payment is declined | the order is cancelled; nothing else has happened |
| too little stock of an item | no item is reserved; payment refunded, order cancelled |
| the carrier refuses | stock released, payment refunded, order cancelled |
| a crash | the saga continues at the same step, with the same keys |
| the customer is unreachable | the order stays completed; the message follows later |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import eventbraid as eb

from .inventory import ReleaseInventory, ReserveInventory, products_of
from .orders import (
    CancelOrder,
    CompleteOrder,
    DeferNotification,
    PlacedOrder,
    RecordNotification,
    SubmitOrder,
)
from .payments import AuthorizePayment, CapturePayment, ReversePayment
from .services.carrier import (
    Carrier,
    Dispatch,
    Label,
    Pickup,
    ShippingRefused,
    ShippingUnavailable,
)
from .services.notifier import CustomerUnreachable, Notifier
from .services.payment_gateway import (
    Authorization,
    PaymentDeclined,
    PaymentGateway,
    PaymentRefused,
    Receipt,
    Reversal,
)
from .services.suite import Services
from .shipments import CancelShipment, CreateShipment, DispatchShipment, SchedulePickup
from .values import PaymentId, ShipmentId

FREE_OF_CHARGE = "free of charge: the order's value is 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """The timeouts and retries of the shop's calls to other services.

    Attributes:
        timeout: The maximum duration of one call.
        initial_delay: The delay after the first failure; it doubles with each further
            failure.
        maximum_attempts: The maximum number of attempts; then the order is cancelled.
    """

    timeout: timedelta = timedelta(seconds=5)
    initial_delay: timedelta = timedelta(milliseconds=50)
    maximum_attempts: int = 5


DEFAULT_LIMITS = CallLimits()


@dataclass(frozen=True, slots=True)
class Fulfilment:
    """The saga's state.

    Attributes:
        placed: The order as the customer placed it.
        tracking_number: The tracking number of the shipment, once it is dispatched.
    """

    placed: PlacedOrder
    tracking_number: str | None = None

    @property
    def payment(self) -> PaymentId:
        """The id of the order's payment."""
        return PaymentId.of(self.placed.order)

    @property
    def shipment(self) -> ShipmentId:
        """The id of the order's shipment."""
        return ShipmentId.of(self.placed.order)


Context = eb.StepContext[Fulfilment]


def order_fulfilment(
    services: Services, limits: CallLimits = DEFAULT_LIMITS
) -> eb.Saga[Fulfilment]:
    """Build the saga of an order: pay, reserve, ship, complete, notify the customer.

    Args:
        services: The services that its steps call.
        limits: The timeouts and retries of these calls.
    """
    return eb.Saga(
        "order-fulfilment",
        Fulfilment,
        version=1,
        deadline=timedelta(days=3),
        steps=[
            _submit(),
            _authorize(services.gateway, limits),
            _capture(services.gateway, limits),
            _reserve(),
            _create_shipment(services.carrier, limits),
            _schedule_pickup(services.carrier, limits),
            _dispatch(services.carrier, limits),
            _complete(),
            _notify(services.notifier, limits),
        ],
    )


def _submit() -> eb.saga.LocalStep[Fulfilment]:
    return eb.local_step("submit order", _submit_order).compensated_by(_cancel_order)


def _submit_order(c: Context) -> SubmitOrder:
    placed = c.state.placed
    return SubmitOrder(
        order=placed.order,
        customer=placed.customer,
        items=placed.items,
        address=placed.address,
        method=placed.method,
    )


def _cancel_order(c: Context) -> CancelOrder:
    return CancelOrder(order=c.state.placed.order, reason=c.failure or "given up")


def _authorize(
    gateway: PaymentGateway, limits: CallLimits
) -> eb.Step[Fulfilment, Authorization]:
    async def authorize(c: Context) -> Authorization:
        placed = c.state.placed
        return await gateway.authorize(
            c.state.payment, placed.method, placed.total, key=c.idempotency_key
        )

    def record(c: Context, authorization: Authorization) -> AuthorizePayment:
        return AuthorizePayment(
            payment=c.state.payment,
            key=c.idempotency_key,
            amount=authorization.amount,
            code=authorization.code,
        )

    async def void(
        c: Context, did: eb.StepCompleted[Authorization] | eb.StepInDoubt
    ) -> Reversal:
        del did  # Whether it happened or not: the key must not count any more.
        return await gateway.void(c.state.payment, c.forward_key, key=c.idempotency_key)

    return eb.step(
        "authorize payment",
        authorize,
        timeout=limits.timeout,
        retry=_retry(limits),
        refusals=(PaymentDeclined, PaymentRefused),
        record=record,
        skip_if=_free_of_charge,
    ).compensated_by(
        void,
        retry=_until_done(limits),
        refusals=(PaymentRefused,),
        timeout=limits.timeout,
        record=_reversed,
    )


def _capture(
    gateway: PaymentGateway, limits: CallLimits
) -> eb.Step[Fulfilment, Receipt]:
    async def capture(c: Context) -> Receipt:
        return await gateway.capture(
            c.state.payment, c.state.placed.total, key=c.idempotency_key
        )

    def record(c: Context, receipt: Receipt) -> CapturePayment:
        return CapturePayment(
            payment=c.state.payment,
            key=c.idempotency_key,
            amount=receipt.amount,
            reference=receipt.reference,
        )

    async def refund(
        c: Context, did: eb.StepCompleted[Receipt] | eb.StepInDoubt
    ) -> Reversal:
        match did:
            case eb.StepCompleted(receipt):
                return await gateway.refund(
                    c.state.payment, receipt.amount, key=c.idempotency_key
                )
            case eb.StepInDoubt():
                return await gateway.void(
                    c.state.payment, c.forward_key, key=c.idempotency_key
                )

    return eb.step(
        "capture payment",
        capture,
        timeout=limits.timeout,
        retry=_retry(limits),
        refusals=(PaymentRefused,),
        record=record,
        skip_if=_free_of_charge,
    ).compensated_by(
        refund,
        retry=_until_done(limits),
        refusals=(PaymentRefused,),
        timeout=limits.timeout,
        record=_reversed,
    )


def _reversed(c: Context, reversal: Reversal) -> ReversePayment:
    return ReversePayment(
        payment=c.state.payment,
        key=c.idempotency_key,
        forward_key=c.forward_key,
        amount=reversal.amount,
        reference=reversal.reference,
    )


def _reserve() -> eb.saga.LocalStep[Fulfilment]:
    return eb.local_step("reserve inventory", _reserve_inventory).compensated_by(
        _release_inventory
    )


def _reserve_inventory(c: Context) -> ReserveInventory:
    placed = c.state.placed
    return ReserveInventory(
        order=placed.order, products=products_of(placed.items), items=placed.items
    )


def _release_inventory(c: Context) -> ReleaseInventory:
    placed = c.state.placed
    return ReleaseInventory(order=placed.order, products=products_of(placed.items))


def _create_shipment(
    carrier: Carrier, limits: CallLimits
) -> eb.Step[Fulfilment, Label]:
    async def create(c: Context) -> Label:
        placed = c.state.placed
        return await carrier.create_shipment(
            c.state.shipment, placed.address, placed.pieces, key=c.idempotency_key
        )

    def record(c: Context, label: Label) -> CreateShipment:
        return CreateShipment(
            shipment=c.state.shipment,
            key=c.idempotency_key,
            pieces=label.pieces,
            label=label.number,
        )

    async def cancel(c: Context, did: eb.StepCompleted[Label] | eb.StepInDoubt) -> None:
        del did  # Whether it happened or not: the shipment must not leave.
        await carrier.cancel(c.state.shipment, c.forward_key, key=c.idempotency_key)

    def record_cancel(c: Context, _: None) -> CancelShipment:
        return CancelShipment(shipment=c.state.shipment, key=c.idempotency_key)

    return eb.step(
        "create shipment",
        create,
        timeout=limits.timeout,
        retry=_retry(limits),
        refusals=(ShippingUnavailable, ShippingRefused),
        record=record,
    ).compensated_by(
        cancel,
        retry=_until_done(limits),
        refusals=(ShippingRefused,),
        timeout=limits.timeout,
        record=record_cancel,
    )


def _schedule_pickup(
    carrier: Carrier, limits: CallLimits
) -> eb.Step[Fulfilment, Pickup]:
    async def schedule(c: Context) -> Pickup:
        return await carrier.schedule_pickup(c.state.shipment, key=c.idempotency_key)

    def record(c: Context, pickup: Pickup) -> SchedulePickup:
        return SchedulePickup(
            shipment=c.state.shipment,
            key=c.idempotency_key,
            confirmation=pickup.confirmation,
        )

    # It needs no compensation of its own: the cancellation of the shipment cancels its
    # pickup too, even if the request for the pickup reaches the carrier later.
    return eb.step(
        "schedule pickup",
        schedule,
        timeout=limits.timeout,
        retry=_retry(limits),
        refusals=(ShippingUnavailable, ShippingRefused),
        record=record,
    ).without_compensation()


def _dispatch(carrier: Carrier, limits: CallLimits) -> eb.Step[Fulfilment, Dispatch]:
    async def dispatch(c: Context) -> Dispatch:
        return await carrier.dispatch(c.state.shipment, key=c.idempotency_key)

    def record(c: Context, dispatch: Dispatch) -> DispatchShipment:
        return DispatchShipment(
            shipment=c.state.shipment,
            key=c.idempotency_key,
            tracking_number=dispatch.tracking_number,
        )

    def then(state: Fulfilment, dispatch: Dispatch) -> Fulfilment:
        return replace(state, tracking_number=dispatch.tracking_number)

    # The pivot: a dispatched shipment cannot be called back. So while it is not known
    # whether the shipment left, the carrier is asked again.
    return eb.step(
        "dispatch shipment",
        dispatch,
        kind=eb.StepKind.PIVOT,
        timeout=limits.timeout,
        retry=_until_done(limits),
        refusals=(ShippingRefused,),
        record=record,
        then=then,
    )


def _complete() -> eb.saga.LocalStep[Fulfilment]:
    return eb.local_step("complete order", _complete_order, kind=eb.StepKind.RETRIABLE)


def _complete_order(c: Context) -> CompleteOrder:
    return CompleteOrder(
        order=c.state.placed.order,
        payment=c.state.payment,
        shipment=c.state.shipment,
    )


def _notify(notifier: Notifier, limits: CallLimits) -> eb.Step[Fulfilment, None]:
    async def notify(c: Context) -> None:
        placed = c.state.placed
        await notifier.notify(
            placed.customer,
            placed.order,
            dispatched_text(c.state.tracking_number),
            key=c.idempotency_key,
        )

    def record(c: Context, _: None) -> RecordNotification:
        return RecordNotification(order=c.state.placed.order, key=c.idempotency_key)

    def defer(c: Context, failure: eb.saga.StepFailure) -> DeferNotification:
        return DeferNotification(
            order=c.state.placed.order,
            key=c.idempotency_key,
            reason=failure.message,
        )

    return eb.step(
        "notify customer",
        notify,
        timeout=limits.timeout,
        retry=replace(_retry(limits), maximum_attempts=2),
        refusals=(CustomerUnreachable,),
        record=record,
        otherwise=defer,
    )


def dispatched_text(tracking_number: str | None) -> str:
    """Return the message to a customer whose order is dispatched."""
    return f"your order is on its way: {tracking_number}"


def _free_of_charge(state: Fulfilment) -> str | None:
    return None if state.placed.total else FREE_OF_CHARGE


def _retry(limits: CallLimits) -> eb.RetryPolicy:
    return eb.RetryPolicy(
        maximum_attempts=limits.maximum_attempts, initial_delay=limits.initial_delay
    )


def _until_done(limits: CallLimits) -> eb.RetryPolicy:
    return eb.RetryPolicy(
        maximum_attempts="unlimited",
        initial_delay=limits.initial_delay,
        maximum_delay=timedelta(seconds=5),
    )
