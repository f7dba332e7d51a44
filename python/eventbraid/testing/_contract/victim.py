"""A program that appends until it is killed, telling each answer that it gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from eventbraid.testing._contract.backend import StoreBackend


def append_until_killed(backend: StoreBackend, answers: Connection) -> None:
    """Append commits of two events each, under keys, without end."""
    anyio.run(_append, backend, answers)


async def _append(backend: StoreBackend, answers: Connection) -> None:
    async with backend.open() as store:
        number = 0
        while True:
            done = await store.append(
                [("a", "x", b""), ("b", "x", b"")], idempotency_key=f"k-{number}"
            )
            answers.send([done.first_position, done.last_position])
            number += 1
