"""The payment gateway: a protocol, and a simulation that fails at a rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..values import Money, PaymentId
from .chance import happens
from .ledger import Entry, Request, Rule

if TYPE_CHECKING:
    from ..values import PaymentMethod
    from .network import Network


class PaymentDeclined(Exception):
    """The bank declined the payment; another attempt would be declined too."""


class PaymentRefused(Exception):
    """The request is not possible, such as a capture that was voided before."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """The bank authorized an amount.

    Attributes:
        payment: The payment.
        code: The bank's code of the authorization.
        amount: The amount in cents.
    """

    payment: PaymentId
    code: str
    amount: Money


@dataclass(frozen=True, slots=True)
class Receipt:
    """An amount was captured.

    Attributes:
        payment: The payment.
        reference: The gateway's reference.
        amount: The amount in cents.
    """

    payment: PaymentId
    reference: str
    amount: Money


@dataclass(frozen=True, slots=True)
class Reversal:
    """A payment was refunded or voided.

    Attributes:
        payment: The payment.
        reference: The gateway's reference.
        amount: The refunded amount in cents; 0 if nothing had been captured.
    """

    payment: PaymentId
    reference: str
    amount: Money


class PaymentGateway(Protocol):
    """A service that captures and refunds money; each key takes effect once."""

    async def authorize(
        self, payment: PaymentId, method: PaymentMethod, amount: Money, *, key: str
    ) -> Authorization:
        """Authorize an amount at the bank.

        Raises:
            PaymentDeclined: The bank declined it.
            PaymentRefused: The key was voided before.
        """
        ...

    async def capture(self, payment: PaymentId, amount: Money, *, key: str) -> Receipt:
        """Capture an authorized amount.

        Raises:
            PaymentRefused: There is no such authorization, or the key was voided.
        """
        ...

    async def refund(self, payment: PaymentId, amount: Money, *, key: str) -> Reversal:
        """Refund an amount that was captured.

        Raises:
            PaymentRefused: It is more than what was captured and not refunded.
        """
        ...

    async def void(self, payment: PaymentId, forward_key: str, *, key: str) -> Reversal:
        """Reverse the effect of a request, even before the request arrives.

        An amount that was captured under `forward_key` is refunded. A request under
        that key which arrives later is refused.
        """
        ...


class SimulatedPaymentGateway:
    """A `PaymentGateway` over an unreliable network, with a ledger of its own.

    Args:
        network: The connection to the gateway's ledger, which applies `payment_rule`.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    async def authorize(
        self, payment: PaymentId, method: PaymentMethod, amount: Money, *, key: str
    ) -> Authorization:
        """Authorize an amount at the bank."""
        del method  # The simulated bank declines by key, not by payment method.
        entry = await self._send(key, "authorize", payment, int(amount))
        return Authorization(payment, entry.reference, Money(entry.amount))

    async def capture(self, payment: PaymentId, amount: Money, *, key: str) -> Receipt:
        """Capture an authorized amount."""
        entry = await self._send(key, "capture", payment, int(amount))
        return Receipt(payment, entry.reference, Money(entry.amount))

    async def refund(self, payment: PaymentId, amount: Money, *, key: str) -> Reversal:
        """Refund an amount that was captured."""
        entry = await self._send(key, "refund", payment, int(amount))
        return Reversal(payment, entry.reference, Money(entry.amount))

    async def void(self, payment: PaymentId, forward_key: str, *, key: str) -> Reversal:
        """Reverse the effect of a request, even before the request arrives."""
        entry = await self._send(key, "void", payment, target=forward_key)
        return Reversal(payment, entry.reference, Money(entry.amount))

    async def _send(
        self,
        key: str,
        action: str,
        payment: PaymentId,
        amount: int = 0,
        target: str = "",
    ) -> Entry:
        entry = await self._network.send(
            Request(
                key=key, action=action, subject=payment, amount=amount, target=target
            )
        )
        if entry.effect == "declined":
            raise PaymentDeclined("the bank declined the payment")
        if entry.effect == "refused":
            raise PaymentRefused(f"{action} {payment}: {entry.reference}")
        return entry


def payment_rule(*, declined: float = 0.0, seed: int = 0) -> Rule:
    """Return the rule of a gateway: its answer to a request, given earlier entries.

    Args:
        declined: The share of payments that the bank declines.
        seed: The seed of the random choice of these.
    """

    def rule(request: Request, history: Sequence[Entry]) -> Iterable[Entry]:
        if any(entry.key == request.key for entry in history):
            return ()
        if any(entry.target == request.key for entry in history):
            return (_entry(request, "refused", reference="voided before it arrived"),)
        if request.action == "authorize" and happens(
            declined, seed, "declined", request.subject
        ):
            return (_entry(request, "declined"),)
        return (_ACTIONS[request.action](request, history),)

    return rule


def double_charging(rule: Rule, *, rate: float, seed: int = 0) -> Rule:
    """Return the rule of a faulty gateway, which makes some captures twice.

    Reconciliation must detect it.

    Args:
        rule: The rule of the gateway without the fault.
        rate: The share of captures that it makes twice.
        seed: The seed of the random choice of these.
    """

    def faulty(request: Request, history: Sequence[Entry]) -> Iterator[Entry]:
        for entry in rule(request, history):
            yield entry
            if entry.effect == "captured" and happens(
                rate, seed, "double", request.key
            ):
                yield entry

    return faulty


def _authorize(request: Request, history: Sequence[Entry]) -> Entry:
    del history
    return _entry(request, "authorized", request.amount)


def _capture(request: Request, history: Sequence[Entry]) -> Entry:
    authorizations = [e for e in history if e.effect == "authorized"]
    voided = {e.target for e in history}
    valid = [e for e in authorizations if e.key not in voided]
    if not any(e.amount >= request.amount for e in valid):
        return _entry(request, "refused", reference="no such authorization")
    return _entry(request, "captured", request.amount)


def _refund(request: Request, history: Sequence[Entry]) -> Entry:
    if request.amount > _left(history):
        return _entry(request, "refused", reference="more than was captured")
    return _entry(request, "refunded", request.amount)


def _void(request: Request, history: Sequence[Entry]) -> Entry:
    captured = sum(
        entry.amount
        for entry in history
        if entry.effect == "captured" and entry.key == request.target
    )
    back = min(captured, _left(history))
    return _entry(request, "refunded" if back else "voided", back)


def _left(history: Sequence[Entry]) -> int:
    signs = {"captured": 1, "refunded": -1}
    return sum(signs.get(entry.effect, 0) * entry.amount for entry in history)


def _entry(
    request: Request, effect: str, amount: int = 0, reference: str = ""
) -> Entry:
    return Entry(
        request.key,
        effect,
        request.subject,
        amount,
        request.target,
        reference or f"{effect[:4].upper()}-{request.subject.partition('-')[2]}",
    )


_ACTIONS: dict[str, Callable[[Request, Sequence[Entry]], Entry]] = {
    "authorize": _authorize,
    "capture": _capture,
    "refund": _refund,
    "void": _void,
}
