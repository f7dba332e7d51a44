"""The events of the benchmark: about 200 bytes of JSON each."""

from __future__ import annotations

import random

Event = tuple[str, str, bytes]

BATCH = 1_000
BATCH_STREAMS = 10
STREAMS = 10_000
EVENT_TYPE = "account.deposited"

_EVENT_BYTES = 200
_SEED = 7


def batches(count: int, *, size: int = BATCH) -> list[list[Event]]:
    """Build batches of events, each over 10 of 10,000 streams at random.

    Args:
        count: The number of batches.
        size: The number of events in each.
    """
    chance = random.Random(_SEED)
    return [_batch(chance, size) for _ in range(count)]


def single_events(count: int) -> list[Event]:
    """Build one event for each of a number of streams."""
    chance = random.Random(_SEED)
    return [(_stream(n), EVENT_TYPE, _data(chance)) for n in range(count)]


def bytes_of(events: list[Event]) -> bytes:
    """Join the bytes of events, without anything that a file format adds."""
    return b"".join(
        stream.encode() + kind.encode() + data for stream, kind, data in events
    )


def _batch(chance: random.Random, size: int) -> list[Event]:
    streams = [_stream(n) for n in chance.sample(range(STREAMS), BATCH_STREAMS)]
    return [(chance.choice(streams), EVENT_TYPE, _data(chance)) for _ in range(size)]


def _stream(number: int) -> str:
    return f"account-{number:05}"


def _data(chance: random.Random) -> bytes:
    amount = chance.randrange(1_000_000)
    note = chance.randbytes(_EVENT_BYTES).hex()
    body = f'{{"amount":{amount},"currency":"USD","note":"{note}'
    return (body[: _EVENT_BYTES - 2] + '"}').encode()
