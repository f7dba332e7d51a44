"""One of several processes that fulfil the orders of a demo on one store.

    python -m eventbraid.examples.order_fulfilment.coordinator PART OPTIONS

`coordinators.fulfil_together` starts it. It starts the orders of its part, drives the
sagas of its share of the shards, whichever process started them, and ends when no order
is in progress. It may be killed at any moment. It ends itself when its standard input
is closed, because then its parent has ended.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import msgspec

import eventbraid as eb

from .demo import (
    DemoOptions,
    Tally,
    fulfil_all,
    planned,
    simulation_of,
    unfinished,
)
from .purchases import purchases
from .shop import open_shop

_INPUT = 0
_ORPHANED = 1


async def fulfil_part(part: int, options: DemoOptions) -> None:
    """Fulfil the orders of a part, and drive sagas until all orders are fulfilled.

    Args:
        part: The number of the part, from 0.
        options: The options of the demo.
    """
    async with eb.open_async(options.store) as store:
        plan = await planned(store)
        if plan is None:
            raise LookupError(f"no demo was begun in {options.directory}")
        simulation = simulation_of(options, plan.seed)
        wanted = [
            purchase
            for purchase in purchases()[: options.limit]
            if purchase.number % options.coordinators == part
        ]
        in_flight = max(1, options.in_flight // options.coordinators)
        async with (
            simulation.services_on_disk(options.ledgers) as services,
            open_shop(
                store, services, limits=options.limits, concurrency=in_flight
            ) as shop,
        ):
            todo = await unfinished(store, wanted)
            await fulfil_all(shop, todo, plan.seed, in_flight, Tally())
            await shop.finish()


def decoded(text: str) -> DemoOptions:
    """Read options from the command line."""
    return msgspec.json.decode(text, type=DemoOptions, dec_hook=_path)


def _path(kind: type[Any], value: Any) -> Any:
    return Path(value) if issubclass(kind, Path) else kind(value)


def _exit_at_end_of_input() -> None:
    # Python's own file object has a lock: the interpreter could not exit while a thread
    # reads from it.
    while os.read(_INPUT, 1):
        continue
    os._exit(_ORPHANED)


def main() -> None:
    """Fulfil the part that the command line names."""
    _, part, options = sys.argv
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
    anyio.run(fulfil_part, int(part), decoded(options))


if __name__ == "__main__":
    main()
