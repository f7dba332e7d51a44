"""Payments: authorized, captured, refunded, as the shop has recorded them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import eventbraid as eb

from .values import Money

NOTHING = Money(0)


@eb.event("payment.authorized")
class PaymentAuthorized:
    """The bank authorized an amount.

    Attributes:
        amount: The amount in cents.
        code: The bank's code of the authorization.
        key: The idempotency key of the call.
    """

    amount: Money
    code: str
    key: str


@eb.event("payment.captured")
class PaymentCaptured:
    """The gateway captured an amount.

    Attributes:
        amount: The amount in cents.
        reference: The gateway's reference.
        key: The idempotency key of the call.
    """

    amount: Money
    reference: str
    key: str


@eb.event("payment.refunded")
class PaymentRefunded:
    """The gateway refunded an amount.

    Attributes:
        amount: The amount in cents.
        reference: The gateway's reference.
        key: The idempotency key of the call.
    """

    amount: Money
    reference: str
    key: str


@eb.event("payment.voided")
class PaymentVoided:
    """The gateway voided an authorization, or a call whose answer was lost.

    Attributes:
        reference: The gateway's reference.
        key: The idempotency key of the call.
    """

    reference: str
    key: str


PaymentEvent = PaymentAuthorized | PaymentCaptured | PaymentRefunded | PaymentVoided


class Payment(eb.Stream[PaymentEvent], category="payment"):
    """The payment of one order."""


@dataclass(frozen=True, slots=True)
class PaymentState:
    """The state that a payment's commands fold; amounts in cents.

    Attributes:
        authorized: The authorized amount.
        captured: The captured amount.
        refunded: The refunded amount.
        keys: The idempotency keys of the recorded calls.
    """

    authorized: Money = NOTHING
    captured: Money = NOTHING
    refunded: Money = NOTHING
    keys: frozenset[str] = frozenset()

    @property
    def kept(self) -> Money:
        """The amount that was captured and not refunded."""
        return self.captured - self.refunded


def payment_after(state: PaymentState, event: PaymentEvent) -> PaymentState:
    """Fold one event into the state of a payment."""
    authorized, captured, refunded = state.authorized, state.captured, state.refunded
    match event:
        case PaymentAuthorized():
            authorized = event.amount
        case PaymentCaptured():
            captured += event.amount
        case PaymentRefunded():
            refunded += event.amount
        case PaymentVoided():
            authorized = NOTHING
    return PaymentState(authorized, captured, refunded, state.keys | {event.key})


class _PaymentCommand(eb.StatefulCommand[PaymentState, PaymentEvent], abstract=True):
    """Record the gateway's answer to a call, once for each key."""

    key: str

    def initial(self) -> PaymentState:
        return PaymentState()

    def apply(
        self, state: PaymentState, recorded: eb.Recorded[PaymentEvent], /
    ) -> PaymentState:
        return payment_after(state, recorded.event)


class AuthorizePayment(_PaymentCommand):
    """Record that the bank authorized an amount."""

    payment: eb.Declared[Payment]
    amount: Money
    code: str

    def decide(self, state: PaymentState, /) -> Iterator[eb.Write]:
        if self.key not in state.keys:
            yield self.payment.write(
                PaymentAuthorized(self.amount, self.code, self.key)
            )


class CapturePayment(_PaymentCommand):
    """Record that the gateway captured an amount.

    Rejected as `not_authorized` if it is more than the authorized amount.
    """

    payment: eb.Declared[Payment]
    amount: Money
    reference: str

    def decide(self, state: PaymentState, /) -> Iterator[eb.Write]:
        if self.key in state.keys:
            return
        eb.require(
            self.amount + state.captured <= state.authorized,
            "not_authorized",
            authorized=int(state.authorized),
            captured=int(state.captured),
            amount=int(self.amount),
        )
        yield self.payment.write(PaymentCaptured(self.amount, self.reference, self.key))


class ReversePayment(_PaymentCommand):
    """Record that the gateway reversed a call: it refunded an amount, or voided it.

    If the answer to the call was lost, only the refund shows that an amount was
    captured; then the capture and the refund are both recorded now.
    """

    payment: eb.Declared[Payment]
    forward_key: str
    amount: Money
    reference: str

    def decide(self, state: PaymentState, /) -> Iterator[eb.Write]:
        if self.key in state.keys:
            return
        if not self.amount:
            yield self.payment.write(PaymentVoided(self.reference, self.key))
            return
        if self.forward_key not in state.keys:
            yield self.payment.write(
                PaymentCaptured(self.amount, self.reference, self.forward_key)
            )
        yield self.payment.write(PaymentRefunded(self.amount, self.reference, self.key))
