"""Fulfils the orders of a demo by several processes, and starts anew those that die."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import msgspec

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import Process

    from .demo import DemoOptions, Tally

_MODULE = "eventbraid.examples.order_fulfilment.coordinator"
_OUTCOMES = {
    "saga.completed": eb.Outcome.COMPLETED,
    "saga.compensated": eb.Outcome.COMPENSATED,
    "saga.stuck": eb.Outcome.STUCK,
}


async def fulfil_together(
    store: eb.AsyncEventStore,
    options: DemoOptions,
    tally: Tally,
    tell: Callable[[str], None],
) -> None:
    """Fulfil all orders by so many processes as the options say.

    Args:
        store: The store, open here too, to count what is fulfilled.
        options: Those of the demo.
        tally: Is kept up to date.
        tell: Is told which process coordinates.

    Raises:
        ChildProcessError: One ended by itself, and not well.
    """
    after = await store.head()
    async with anyio.create_task_group() as counting:
        counting.start_soon(_count, store, after, tally)
        async with anyio.create_task_group() as processes:
            for part in range(options.coordinators):
                processes.start_soon(_keep_running, part, options, tell)
        counting.cancel_scope.cancel()


async def _count(store: eb.AsyncEventStore, after: int, tally: Tally) -> None:
    async with store.subscribe(after=after, types=list(_OUTCOMES)) as ends:
        async for recorded in ends:
            tally.outcomes[_OUTCOMES[recorded.type]] += 1


async def _keep_running(
    part: int, options: DemoOptions, tell: Callable[[str], None]
) -> None:
    """Run a coordinator until it is through, again each time that it is killed."""
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        code = await _run_once(part, options, tell)
    if code:
        raise ChildProcessError(f"coordinator {part} ended with exit code {code}")


async def _run_once(
    part: int, options: DemoOptions, tell: Callable[[str], None]
) -> int:
    encoded = msgspec.json.encode(options, enc_hook=str).decode()
    command = [sys.executable, "-m", _MODULE, str(part), encoded]
    # Its output is ours; its input tells it that we are gone. Ctrl-C is for us alone.
    process: Process = await anyio.open_process(
        command,
        stdin=subprocess.PIPE,
        stdout=None,
        stderr=None,
        start_new_session=True,
    )
    try:
        tell(f"coordinator {part} is process {process.pid}")
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()
