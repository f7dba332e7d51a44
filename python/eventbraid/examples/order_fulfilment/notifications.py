"""Later attempts to notify customers who could not be reached at first.

The log has them: orders with a deferred notification and without a delivered one. So it
does not matter which run deferred a notification, or whether that run was killed.
"""

from __future__ import annotations

from dataclasses import dataclass

import eventbraid as eb

from .fulfilment import dispatched_text
from .orders import (
    CustomerNotified,
    NotificationDeferred,
    Order,
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


async def deliver_deferred(
    store: eb.AsyncEventStore, notifier: Notifier, *, rounds: int = ROUNDS
) -> tuple[int, int]:
    """Send the deferred messages, and record those that are delivered.

    Args:
        store: The shop's log.
        notifier: Sends the messages.
        rounds: The maximum number of attempts for each message.

    Returns:
        The number of customers who were notified, and the number of those who were not.
    """
    executor = eb.AsyncExecutor(store)
    waiting = [
        await _message(executor, order, key)
        for order, key in (await _deferred(store)).items()
    ]
    before = len(waiting)
    for _ in range(rounds):
        waiting = [m for m in waiting if not await _delivered(executor, notifier, m)]
    return before - len(waiting), len(waiting)


async def _deferred(store: eb.AsyncEventStore) -> dict[OrderId, str]:
    """Return the orders whose notification is deferred, each with its key."""
    keys: dict[OrderId, str] = {}
    types = ("order.notification_deferred", "order.customer_notified")
    async for recorded in store.read_all(types=types):
        match eb.decode_event(recorded):
            case NotificationDeferred(key=key):
                keys[OrderId(recorded.stream)] = key
            case CustomerNotified():
                keys.pop(OrderId(recorded.stream), None)
            case other:
                raise LookupError(f"unexpected event in a filtered read: {other!r}")
    return keys


async def _message(executor: eb.AsyncExecutor, order: OrderId, key: str) -> _Message:
    state = (await executor.load(Order(order))).state
    if state.submitted is None:
        raise LookupError(f"{order} has a notification but was never submitted")
    text = dispatched_text(state.tracking_number)
    return _Message(state.submitted.customer, order, text, key)


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
