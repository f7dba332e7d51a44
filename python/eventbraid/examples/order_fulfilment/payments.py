"""Payments: authorized, captured, given back; what the shop knows of its money."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import eventbraid as eb

from .values import Money

NOTHING = Money(0)


@eb.event("payment.authorized")
class PaymentAuthorized:
    """The bank keeps an amount ready.

    Attributes:
        amount: How many cents.
        code: The bank's number for it.
        key: The idempotency key of the call.
    """

    amount: Money
    code: str
    key: str


@eb.event("payment.captured")
class PaymentCaptured:
    """The gateway took an amount.

    Attributes:
        amount: How many cents.
        reference: The gateway's number for it.
        key: The idempotency key of the call.
    """

    amount: Money
    reference: str
    key: str


@eb.event("payment.refunded")
class PaymentRefunded:
    """The gateway gave an amount back.

    Attributes:
        amount: How many cents.
        reference: The gateway's number for it.
        key: The idempotency key of the call.
    """

    amount: Money
    reference: str
    key: str


@eb.event("payment.voided")
class PaymentVoided:
    """The gateway dropped an authorization, or a call whose answer was lost.

    Attributes:
        reference: The gateway's number for it.
        key: The idempotency key of the call.
    """

    reference: str
    key: str


PaymentEvent = PaymentAuthorized | PaymentCaptured | PaymentRefunded | PaymentVoided


class Payment(eb.Stream[PaymentEvent], category="payment"):
    """The payment of one order."""


@dataclass(frozen=True, slots=True)
class PaymentState:
    """What a payment's commands need to know of it, in cents.

    Attributes:
        authorized: What the bank keeps ready or has paid.
        captured: What was taken.
        refunded: What of it was given back.
        keys: The calls that are recorded.
    """

    authorized: Money = NOTHING
    captured: Money = NOTHING
    refunded: Money = NOTHING
    keys: frozenset[str] = frozenset()

    @property
    def kept(self) -> Money:
        """What was taken and not given back."""
        return self.captured - self.refunded


def payment_after(state: PaymentState, event: PaymentEvent) -> PaymentState:
    """Fold one event into what is known of a payment."""
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


class _PaymentCommand(eb.Command[PaymentState, PaymentEvent], abstract=True):
    """Records what the gateway answered; nothing to do if the call is recorded."""

    key: str

    def initial(self) -> PaymentState:
        return PaymentState()

    def apply(
        self, state: PaymentState, recorded: eb.Recorded[PaymentEvent], /
    ) -> PaymentState:
        return payment_after(state, recorded.event)


class AuthorizePayment(_PaymentCommand):
    """The bank keeps an amount ready."""

    payment: eb.Declared[Payment]
    amount: Money
    code: str

    def decide(self, state: PaymentState, /) -> Iterator[eb.Write]:
        if self.key not in state.keys:
            yield self.payment.write(
                PaymentAuthorized(self.amount, self.code, self.key)
            )


class CapturePayment(_PaymentCommand):
    """The gateway took an amount.

    Rejected as `not_authorized` if it is more than the bank keeps ready.
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
    """The gateway undid a call: it gave an amount back, or there was none to give.

    If the answer to the call was lost, that it took an amount is learnt only from what
    the gateway gave back; then both are recorded now.
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
