"""Right uses of groups of steps and of waits: both checkers accept every line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import eventbraid as eb
from eventbraid.saga import (
    ItemState,
    Signal,
    each,
    parallel,
    sequence,
    sleep,
    wait,
    when,
)

T = timedelta(seconds=1)


@dataclass(frozen=True)
class Hotel:
    name: str


@dataclass(frozen=True)
class Trip:
    hotels: Mapping[str, Hotel]
    departs: datetime
    seats: int = 0
    booked: tuple[str, ...] = ()


confirmed = Signal("confirmed", int)
declined = Signal("declined", str)
nudge = Signal("nudge")


async def book(c: eb.StepContext[ItemState[Trip, Hotel]]) -> str:
    return f"{c.state.key} {c.state.item.name} {c.state.state.seats}"


async def unbook(
    c: eb.StepContext[ItemState[Trip, Hotel]],
    did: eb.StepCompleted[str] | eb.StepInDoubt,
) -> None: ...


async def fly(c: eb.StepContext[Trip]) -> str:
    return str(c.state.seats)


def with_hotels(trip: Trip, results: Mapping[str, str]) -> Trip:
    return replace(trip, booked=tuple(results.values()))


booking = eb.step("book", book, timeout=T).compensated_by(unbook)
flight = eb.step("fly", fly, timeout=T).without_compensation()

saga = eb.Saga(
    "trip",
    Trip,
    steps=[
        parallel(flight, each(lambda trip: trip.hotels, booking, then=with_hotels)),
        when(
            "has seats", lambda trip: trip.seats > 0, then=[sequence(sleep("nap", T))]
        ),
        wait(
            confirmed,
            timeout=T,
            then=lambda trip, seats: replace(trip, seats=seats + 1),
        ),
        wait(
            confirmed.then(lambda trip, seats: replace(trip, seats=seats)),
            declined.then(lambda trip, why: replace(trip, booked=(why.upper(),))),
            nudge,
            name="answer",
            timeout=T,
            on_timeout=lambda trip: replace(trip, seats=0),
        ),
        sleep("until departure", lambda trip: trip.departs),
    ],
)


async def send(coordinator: eb.SagaCoordinator) -> None:
    await coordinator.signal("trip-1", confirmed, 3, by="ann")
    await coordinator.signal("trip-1", nudge)
    trip = Trip({}, datetime.now(UTC))
    handle = await coordinator.start(saga, trip, id="trip-1")
    (await handle.result()).state.departs.isoformat()
