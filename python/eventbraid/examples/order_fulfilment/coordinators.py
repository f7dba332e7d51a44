"""Several processes that fulfil the orders of a demo; a killed one is replaced."""

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
    "saga.completed": eb.SagaOutcome.COMPLETED,
    "saga.compensated": eb.SagaOutcome.COMPENSATED,
    "saga.stuck": eb.SagaOutcome.STUCK,
}


async def fulfil_together(
    store: eb.AsyncEventStore,
    options: DemoOptions,
    tally: Tally,
    report: Callable[[str], None],
) -> None:
    """Fulfil all orders with the number of processes that the options have.

    Args:
        store: The store, open in this process too, to count the fulfilled orders.
        options: The options of the demo.
        tally: Updated with the outcome of each order.
        report: Called with a line for each process that is started.

    Raises:
        ChildProcessError: A process exited with an error.
    """
    after = await store.head()
    async with anyio.create_task_group() as counting:
        counting.start_soon(_count, store, after, tally)
        async with anyio.create_task_group() as processes:
            for part in range(options.coordinators):
                processes.start_soon(_keep_running, part, options, report)
        counting.cancel_scope.cancel()


async def _count(store: eb.AsyncEventStore, after: int, tally: Tally) -> None:
    async with store.subscribe(after=after, types=list(_OUTCOMES)) as ends:
        async for recorded in ends:
            tally.outcomes[_OUTCOMES[recorded.type]] += 1


async def _keep_running(
    part: int, options: DemoOptions, report: Callable[[str], None]
) -> None:
    """Run a coordinator until it exits by itself; start it again if it is killed."""
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        code = await _run_once(part, options, report)
    if code:
        raise ChildProcessError(f"coordinator {part} ended with exit code {code}")


async def _run_once(
    part: int, options: DemoOptions, report: Callable[[str], None]
) -> int:
    encoded = msgspec.json.encode(options, enc_hook=str).decode()
    command = [sys.executable, "-m", _MODULE, str(part), encoded]
    # It inherits the output. Its input is a pipe, by which it notices the end of this
    # process. It has a session of its own, so Ctrl-C interrupts only this process.
    process: Process = await anyio.open_process(
        command,
        stdin=subprocess.PIPE,
        stdout=None,
        stderr=None,
        start_new_session=True,
    )
    try:
        report(f"coordinator {part} is process {process.pid}")
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()
