"""Commands on all streams of a kind, with errors that a type checker must find."""

from __future__ import annotations

from collections.abc import Iterator

import eventbraid as eb


@eb.event("typing.room.opened")
class Opened: ...


@eb.event("typing.guest.arrived")
class Arrived: ...


class Room(eb.Stream[Opened, int], category="room"):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Opened, /) -> int:
        return state + 1


class OpenRoom(eb.Command):
    def discover(self) -> Iterator[type[Room]]:
        yield Room("room-1")  # refused: a stream is no kind
        yield Opened  # refused: an event is no kind

    def decide(self) -> Iterator[eb.Write]:
        rooms = self.discovered(Room)
        yield rooms.write(Opened())  # refused: many streams
        yield rooms[0].write(Arrived())  # refused: foreign event
        name: str = rooms[0].state  # refused: the state is an int
        self.discovered("room-1")  # refused: a text is no stream
        self.discovered(Opened)  # refused: an event is no kind


class BadDiscovery(eb.Command):
    def discover(self) -> Iterator[str]:  # refused: texts are no streams
        yield "room-1"

    def decide(self) -> Iterator[eb.Write]:
        yield from ()


def read(store: eb.EventStore) -> None:
    store.category_streams(Opened)  # refused: an event is no kind
    store.category_streams(Room("room-1"))  # refused: a stream is no kind
    store.append([], expect_categories={"room": "1"})  # refused: no version
    store.append([], expect_categories={Room: 1})  # refused: the category is a text
    store.append([], expect_categories=["room"])  # refused: no mapping
