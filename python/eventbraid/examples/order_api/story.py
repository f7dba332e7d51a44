"""What of an order's records is told to its customer, and in which words.

An order's story stands in two streams: the order's own, and that of the saga which
fulfils it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ..order_fulfilment.values import SagaId
from .intake import unknown_event
from .problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    import eventbraid as eb

    from ..order_fulfilment.values import OrderId

# What is told, by the type of the record. A saga records more than that: the attempts
# that it makes, and what only an operator needs to know.
_NAMES = {
    "order.submitted": "submitted",
    "order.completed": "completed",
    "order.cancelled": "cancelled",
    "saga.started": "accepted",
    "saga.step_succeeded": "done",
    "saga.step_failed": "failed",
    "saga.step_unknown": "unsure",
    "saga.compensation_started": "undoing",
    "saga.step_compensated": "undone",
    "saga.stuck": "waiting",
    "saga.completed": "ended",
    "saga.compensated": "ended",
}
_LAST = "ended"

TYPES = tuple(_NAMES)
"""The types of the records of which something is told."""


class Facts(msgspec.Struct, omit_defaults=True):
    """What of a record's data is told, as far as the record has it."""

    total: int | None = None
    tracking_number: str | None = None
    step: str | None = None
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened to an order.

    Attributes:
        position: Its place in the log.
        name: What happened, in one word.
        facts: What else there is to say.
    """

    position: int
    name: str
    facts: Facts

    @property
    def is_last(self) -> bool:
        """Whether nothing will happen to the order any more."""
        return self.name == _LAST

    def as_event(self) -> bytes:
        r"""The change as a server-sent event.

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
    """The story of one order, read on from where its reader is.

    Args:
        store: The open store.
        order: Which order.
        after: The position of the last change that the reader knows; 0 for none.
    """

    def __init__(self, store: eb.AsyncEventStore, order: OrderId, after: int) -> None:
        self.streams = (str(order), str(SagaId.of(order)))
        self.ended = False
        self._store = store
        self._after = after
        self._versions: Mapping[str, int] = {}

    async def begin(self) -> list[Change]:
        """Read what the reader does not know yet.

        Raises:
            Problem: There is no such order, or the reader's place is not in its story.
        """
        changes = await self.read_on()
        if not changes:
            raise no_such_order(self.streams[0])
        if self._after and self._after not in {c.position for c in changes}:
            raise unknown_event(self._after)
        return [change for change in changes if change.position > self._after]

    async def read_on(self) -> list[Change]:
        """Read what was recorded since."""
        snapshot = await self._store.read_streams(self.streams, after=self._versions)
        self._versions = snapshot.versions
        changes = [_change(one) for one in snapshot.events if one.type in _NAMES]
        self.ended = self.ended or any(change.is_last for change in changes)
        return changes


def no_such_order(given: str) -> Problem:
    """The refusal of an id that no order has."""
    return Problem(
        404,
        "no-such-order",
        f"no order has the id {given!r:.80}; the answer to POST /orders names it",
    )


def _change(recorded: eb.RecordedEvent) -> Change:
    return Change(
        recorded.position, _NAMES[recorded.type], _decode_facts(recorded.data)
    )


_decode_facts = msgspec.json.Decoder(Facts).decode
_encode = msgspec.json.Encoder().encode
