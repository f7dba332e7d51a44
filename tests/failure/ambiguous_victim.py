"""Appends under keys until it is killed: says what it asks before, and what it hears after.

usage: python ambiguous_victim.py STORE FIRST [sync|async]
"""

from __future__ import annotations

import asyncio
import itertools
import sys

import eventbraid as eb

IN_FLIGHT = 8


def request(number):
    """The whole of an append, from its number alone: whoever asks again asks the same."""
    body = str(number).encode() * (1 + number % 50)
    streams = (f"account-{number % 5}", f"ledger-{number % 3}")
    return {
        "events": [(stream, "moved", body) for stream in streams[: 1 + number % 2]],
        "idempotency_key": f"request-{number}",
    }


def say(word, number):
    sys.stdout.write(f"{word} {number}\n")
    sys.stdout.flush()


def one_after_the_other(path, first):
    with eb.open(path) as store:
        for number in itertools.count(first):
            say("ask", number)
            store.append(**request(number))
            say("done", number)


async def many_at_once(path, first):
    numbers = itertools.count(first)

    async def ask(store):
        for number in numbers:
            say("ask", number)
            await store.append(**request(number))
            say("done", number)

    async with eb.open_async(path) as store:
        await asyncio.gather(*(ask(store) for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    path, first, face = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if face == "sync":
        one_after_the_other(path, first)
    else:
        asyncio.run(many_at_once(path, first))
