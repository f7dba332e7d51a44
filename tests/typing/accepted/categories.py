"""Commands that decide on all streams of a kind, and appends that expect a category."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

import eventbraid as eb
from eventbraid.command import Writable, Writables
from eventbraid.store import CategoryStreams


@eb.event("typing.room.opened")
class Opened: ...


@eb.event("typing.guest.arrived")
class Arrived: ...


class Room(eb.Stream[Opened, int], category="room"):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Opened, /) -> int:
        return state + 1


class Guest(eb.Stream[Arrived], category="guest"): ...


class OpenRoom(eb.Command):
    room: eb.Declared[Room]

    def discover(self) -> Iterator[type[Room | Guest] | Guest]:
        yield Room
        yield Guest
        yield Guest("guest-1")

    def decide(self) -> Iterator[eb.Write]:
        rooms = self.discovered(Room)
        assert_type(rooms, Writables[Opened, int])
        assert_type(rooms[0].state, int)
        assert_type(rooms.of("room-1"), Writable[Opened, int])
        assert_type(self.discovered(Room("room-1")).state, int)
        eb.require(sum(room.state for room in rooms) < 9, "full")
        for guest in self.discovered(Guest):
            yield guest.write(Arrived())
        yield self.room.write(Opened())


class CountRooms(eb.StatefulCommand[int, Opened]):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, recorded: eb.Recorded[Opened], /) -> int:
        return state + 1

    def discover(self, state: int, /) -> tuple[type[Room], ...]:
        return (Room,)

    def decide(self, state: int, /) -> Iterator[eb.Write]:
        for room in self.discovered(Room):
            yield room.write(Opened())


def read(store: eb.EventStore) -> None:
    rooms = store.category_streams(Room, after=3, limit=5)
    assert_type(rooms, CategoryStreams)
    assert_type(rooms.streams, tuple[str, ...])
    store.append(
        [("room-1", "x", b"")],
        expect_categories={"room": rooms.version, "guest": eb.NO_STREAM},
    )


async def read_async(store: eb.AsyncEventStore) -> None:
    assert_type(await store.category_streams("room", at=7), CategoryStreams)
    await store.append([], expect_categories={"room": 3})
