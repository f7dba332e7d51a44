"""One of several processes that fulfil the orders of a demo on one store.

    python -m eventbraid.examples.order_fulfilment.coordinator PART OPTIONS

It is started by `coordinators.fulfil_together`. It starts the orders of its part,
drives the sagas of its share of the shards, whoever started them, and ends when no
order is under way any more. It may be killed at any moment; so it is when its input
ends, for then whoever started it is gone.
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
    """Fulfil the orders of a part, and help until all orders are fulfilled.

    Args:
        part: Which part, from 0 up to the number of coordinators.
        options: Those of the demo.
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
                store, services, patience=options.patience, concurrency=in_flight
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


def _end_with_the_input() -> None:
    # Not by a file of Python's: the interpreter could not end while this reads.
    while os.read(_INPUT, 1):
        continue
    os._exit(_ORPHANED)


def main() -> None:
    """Do it, for the part and the options of the command line."""
    _, part, options = sys.argv
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    anyio.run(fulfil_part, int(part), decoded(options))


if __name__ == "__main__":
    main()
