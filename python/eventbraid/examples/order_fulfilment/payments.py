"""Payments: authorized, captured, refunded, as the shop has recorded them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class PaymentState:
    """The state of a payment; amounts in cents.

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


class Payment(eb.Stream[PaymentEvent, PaymentState], category="payment"):
    """The payment of one order."""

    def initial(self) -> PaymentState:
        return PaymentState()

    def apply(self, state: PaymentState, event: PaymentEvent, /) -> PaymentState:
        keys = state.keys | {event.key}
        match event:
            case PaymentAuthorized(amount):
                return replace(state, authorized=amount, keys=keys)
            case PaymentCaptured(amount):
                return replace(state, captured=state.captured + amount, keys=keys)
            case PaymentRefunded(amount):
                return replace(state, refunded=state.refunded + amount, keys=keys)
            case PaymentVoided():
                return replace(state, authorized=NOTHING, keys=keys)


class AuthorizePayment(eb.Command):
    """Record that the bank authorized an amount, once for each key."""

    payment: eb.Declared[Payment]
    key: str
    amount: Money
    code: str

    def decide(self) -> Iterator[eb.Write]:
        if self.key not in self.payment.state.keys:
            yield self.payment.write(
                PaymentAuthorized(self.amount, self.code, self.key)
            )


class CapturePayment(eb.Command):
    """Record that the gateway captured an amount, once for each key.

    Rejected as `not_authorized` if it is more than the authorized amount.
    """

    payment: eb.Declared[Payment]
    key: str
    amount: Money
    reference: str

    def decide(self) -> Iterator[eb.Write]:
        state = self.payment.state
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


class ReversePayment(eb.Command):
    """Record that the gateway refunded an amount or voided a call, once for each key.

    If the answer to the call was lost, only the refund shows that an amount was
    captured; then the capture and the refund are both recorded now.
    """

    payment: eb.Declared[Payment]
    key: str
    forward_key: str
    amount: Money
    reference: str

    def decide(self) -> Iterator[eb.Write]:
        state = self.payment.state
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
