"""Wrong uses of groups of steps and of waits: both checkers must refuse each marked line."""

from __future__ import annotations

from collections.abc import Mapping

import eventbraid as eb
from eventbraid.saga import each, wait

from tests.typing.accepted.saga_groups import T, Trip, booking, confirmed, nudge


def wrong_results(trip: Trip, results: Mapping[str, int]) -> Trip:
    return trip


def other_items(trip: Trip) -> Mapping[str, int]:
    return {}


def seats(trip: Trip, count: str) -> Trip:
    return trip


each(other_items, booking)  # refused: the step is for other items
each(lambda trip: trip.hotels, booking, then=wrong_results)  # refused: other results
wait(confirmed, timeout=T, then=seats)  # refused: the payload is an int
confirmed.then(seats)  # refused: the payload is an int
wait("confirmed", timeout=T)  # refused: it is no signal


async def send(coordinator: eb.SagaCoordinator) -> None:
    await coordinator.signal("trip-1", confirmed, "three")  # refused: another payload
    await coordinator.signal("trip-1", confirmed)  # refused: the payload is missing
    await coordinator.signal("trip-1", nudge, 3)  # refused: there is no payload
