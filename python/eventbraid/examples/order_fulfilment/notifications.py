"""Customers who could not be told at once are told later.

The log knows who they are: orders with a deferred notification and no later one. So it
does not matter which run deferred it, nor whether that run was killed.
"""

from __future__ import annotations

from dataclasses import dataclass

import eventbraid as eb

from .fulfilment import dispatched_text
from .orders import (
    CustomerNotified,
    NotificationDeferred,
    OrderCompleted,
    OrderSubmitted,
    RecordNotification,
)
from .services.notifier import CustomerUnreachable, Notifier
from .values import CustomerId, OrderId

ROUNDS = 4


@dataclass(frozen=True, slots=True)
class _Message:
    customer: CustomerId
    order: OrderId
    text: str
    key: str


async def tell_the_untold(
    store: eb.AsyncEventStore, notifier: Notifier, *, rounds: int = ROUNDS
) -> tuple[int, int]:
    """Send the messages that were deferred, and record what arrives.

    Args:
        store: The shop's log.
        notifier: Sends the messages.
        rounds: How often each customer is tried.

    Returns:
        How many customers were told, and how many still are not.
    """
    executor = eb.AsyncExecutor(store)
    waiting = [
        await _message(store, order, key)
        for order, key in (await _untold(store)).items()
    ]
    before = len(waiting)
    for _ in range(rounds):
        waiting = [m for m in waiting if not await _delivered(executor, notifier, m)]
    return before - len(waiting), len(waiting)


async def _untold(store: eb.AsyncEventStore) -> dict[OrderId, str]:
    keys: dict[OrderId, str] = {}
    types = ("order.notification_deferred", "order.customer_notified")
    async for recorded in store.read_all(types=types):
        match eb.decode_event(recorded):
            case NotificationDeferred(key=key):
                keys[OrderId(recorded.stream)] = key
            case CustomerNotified():
                keys.pop(OrderId(recorded.stream), None)
            case other:
                raise LookupError(f"{other!r} was not asked for")
    return keys


async def _message(store: eb.AsyncEventStore, order: OrderId, key: str) -> _Message:
    customer: CustomerId | None = None
    tracking_number: str | None = None
    async for recorded in store.read_stream(order):
        match eb.decode_event(recorded):
            case OrderSubmitted() as submitted:
                customer = submitted.customer
            case OrderCompleted() as completed:
                tracking_number = completed.tracking_number
            case _:
                continue
    if customer is None:
        raise LookupError(f"{order} was never submitted, yet has a notification")
    return _Message(customer, order, dispatched_text(tracking_number), key)


async def _delivered(
    executor: eb.AsyncExecutor, notifier: Notifier, message: _Message
) -> bool:
    try:
        await notifier.notify(
            message.customer, message.order, message.text, key=message.key
        )
    except (CustomerUnreachable, ConnectionError, TimeoutError):
        return False
    await executor.execute(RecordNotification(order=message.order, key=message.key))
    return True
