"""Append with keys until the process is killed; print a line before and after each append.

usage: python ambiguous_victim.py STORE FIRST [sync|async]
"""

from __future__ import annotations

import asyncio
import itertools
import sys

import eventbraid as eb

IN_FLIGHT = 8


def request(number):
    """Build the arguments of an append from its number, so that it can be repeated."""
    body = str(number).encode() * (1 + number % 50)
    streams = (f"account-{number % 5}", f"ledger-{number % 3}")
    return {
        "events": [(stream, "moved", body) for stream in streams[: 1 + number % 2]],
        "idempotency_key": f"request-{number}",
    }


def print_line(word, number):
    sys.stdout.write(f"{word} {number}\n")
    sys.stdout.flush()


def append_sequentially(path, first):
    with eb.open(path) as store:
        for number in itertools.count(first):
            print_line("begun", number)
            store.append(**request(number))
            print_line("done", number)


async def append_concurrently(path, first):
    numbers = itertools.count(first)

    async def append(store):
        for number in numbers:
            print_line("begun", number)
            await store.append(**request(number))
            print_line("done", number)

    async with eb.open_async(path) as store:
        await asyncio.gather(*(append(store) for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    path, first, face = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if face == "sync":
        append_sequentially(path, first)
    else:
        asyncio.run(append_concurrently(path, first))
