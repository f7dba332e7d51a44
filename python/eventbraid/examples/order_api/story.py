"""The changes of an order that its customer sees, made from the recorded events.

They are in two streams: the order's own, and that of the saga that fulfils it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from eventbraid.web import Problem

from ..order_fulfilment.values import SagaId
from .intake import unknown_event

if TYPE_CHECKING:
    from collections.abc import Mapping

    import eventbraid as eb

    from ..order_fulfilment.values import OrderId

# The name of a change by the type of its event. A saga records more events: its
# attempts, and what only an operator needs.
_NAMES = {
    "order.submitted": "submitted",
    "order.completed": "completed",
    "order.cancelled": "cancelled",
    "saga.started": "accepted",
    "saga.step_succeeded": "done",
    "saga.step_failed": "failed",
    "saga.step_unknown": "unsure",
    "saga.compensation_started": "compensating",
    "saga.step_compensated": "compensated",
    "saga.stuck": "waiting",
    "saga.completed": "ended",
    "saga.compensated": "ended",
}
_LAST = "ended"

TYPES = tuple(_NAMES)
"""The types of the events that become changes."""


class Facts(msgspec.Struct, omit_defaults=True):
    """The fields of an event that a customer sees, as far as the event has them."""

    total: int | None = None
    tracking_number: str | None = None
    step: str | None = None
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an order.

    Attributes:
        position: The position of its event.
        name: The name of the change.
        facts: The details.
    """

    position: int
    name: str
    facts: Facts

    @property
    def is_last(self) -> bool:
        """Whether no change of the order can follow."""
        return self.name == _LAST

    def as_event(self) -> bytes:
        r"""Encode the change as a server-sent event.

        Example:
            >>> Change(7, "submitted", Facts(total=1177)).as_event()
            b'id: 7\nevent: submitted\ndata: {"total":1177}\n\n'
        """
        data = _encode(self.facts)
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (
            self.position,
            self.name.encode(),
            data,
        )


class Story:
    """The changes of one order, read from the reader's last position on.

    Args:
        store: The open store.
        order: The order.
        after: The position of the last change that the reader has; 0 for none.
    """

    def __init__(self, store: eb.AsyncEventStore, order: OrderId, after: int) -> None:
        self.streams = (str(order), str(SagaId.of(order)))
        self.ended = False
        self._store = store
        self._after = after
        self._versions: Mapping[str, int] = {}

    async def begin(self) -> list[Change]:
        """Read the changes after the reader's last one.

        Raises:
            Problem: There is no such order, or no change of it has that position.
        """
        changes = await self.read_on()
        if not changes:
            raise no_such_order(self.streams[0])
        if self._after and self._after not in {c.position for c in changes}:
            raise unknown_event(self._after)
        return [change for change in changes if change.position > self._after]

    async def read_on(self) -> list[Change]:
        """Read the changes that were recorded since the last read."""
        snapshot = await self._store.read_streams(self.streams, after=self._versions)
        self._versions = snapshot.versions
        changes = [_change(one) for one in snapshot.events if one.type in _NAMES]
        self.ended = self.ended or any(change.is_last for change in changes)
        return changes


def no_such_order(given: str) -> Problem:
    """Build the refusal of an id that no order has."""
    return Problem(
        404,
        "no-such-order",
        f"no order has the id {given!r:.80}; use the id that POST /orders returned",
    )


def _change(recorded: eb.RecordedEvent) -> Change:
    return Change(
        recorded.position, _NAMES[recorded.type], _decode_facts(recorded.data)
    )


_decode_facts = msgspec.json.Decoder(Facts).decode
_encode = msgspec.json.Encoder().encode
