"""A program one of whose commands loses its sync; test_lost_sync runs it.

Usage: lost_command_victim.py STORE FACE

It executes commands on a cached state until one fails, then loads the state, executes
again, closes the store and opens it again. It prints the results as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import anyio

import eventbraid as eb

MAXIMUM = 100


@eb.event("lost.counted")
class Counted:
    """`seen` is the state on which the command decided."""

    seen: int


class Counter(eb.Stream[Counted, int], category="counter"):
    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Counted, /) -> int:
        return state + 1


class Count(eb.Command):
    counter: eb.Declared[Counter]

    def decide(self) -> Iterator[eb.Write]:
        yield self.counter.write(Counted(self.counter.state))


COUNT = Count(counter="counter-1")


class Sync:
    """A synchronous store."""

    def __init__(self, path: str) -> None:
        self.store = eb.open(path)
        self._executor = eb.Executor(self.store)

    def execute(self, key: str) -> eb.Executed:
        return self._executor.execute(COUNT, idempotency_key=key)

    def execute_without_key(self) -> eb.Executed:
        return self._executor.execute(COUNT)

    def load(self) -> eb.command.StreamState[int]:
        return self._executor.load(Counter("counter-1"))


class Async(Sync):
    """The same on an event loop, a new one for each call."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._in_loop = eb.AsyncExecutor(self.store.as_async())

    def execute(self, key: str) -> eb.Executed:
        return self._run(self._in_loop.execute, COUNT, idempotency_key=key)

    def execute_without_key(self) -> eb.Executed:
        return self._run(self._in_loop.execute, COUNT)

    def load(self) -> eb.command.StreamState[int]:
        return self._run(self._in_loop.load, Counter("counter-1"))

    @staticmethod
    def _run(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        async def awaited() -> Any:
            return await call(*arguments, **options)

        return anyio.run(awaited)


def outcome(work: Callable[[], object]) -> str:
    """Return the name of the error that a call raises."""
    try:
        work()
    except eb.EventbraidError as error:
        return type(error).__name__
    return "none"


def main(path: str, face: str) -> None:
    opened = {"sync": Sync, "async": Async}[face]
    program = opened(path)
    results: dict[str, object] = {}
    acknowledged = 0
    for number in range(MAXIMUM):
        # Every second one takes the short way, which has no key.
        key = f"k-{number}"
        work = program.execute_without_key if number % 2 else program.execute
        arguments = [] if number % 2 else [key]
        results["first"] = outcome(lambda: work(*arguments))  # noqa: B023 - called here
        if results["first"] != "none":
            break
        acknowledged += 1
    results["acknowledged"] = acknowledged
    loaded = program.load()
    results["loaded"] = [loaded.state, loaded.version]
    results["then"] = [outcome(program.execute_without_key) for _ in range(3)]
    loaded = program.load()
    results["loaded_again"] = [loaded.state, loaded.version]
    results["closed"] = outcome(program.store.close)
    program = opened(path)
    loaded = program.load()
    results["reopened"] = [loaded.state, loaded.version]
    done = [program.execute(key) for _ in range(2)]
    results["again"] = [one.replayed for one in done]
    results["seen"] = [
        eb.decode_event(one).seen for one in program.store.read_stream("counter-1")
    ]
    results["verified"] = program.store.verify().events
    program.store.close()
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
