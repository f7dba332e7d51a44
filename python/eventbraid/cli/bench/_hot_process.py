"""A process that executes commands on one account; run as a file.

    _hot_process.py STORE ACCOUNT TASKS SECONDS

It opens the store, reads the account, prints a line, waits for a line, executes
commands from a number of tasks, and prints a report.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import eventbraid as eb
from eventbraid.cli.bench._accounts import Account, Amount, Deposit


async def main(path: str, account: str, tasks: int, seconds: float) -> None:
    """Execute commands until the time is over, and report their number."""
    counts = [0] * tasks
    attempts = 1
    command = Deposit(account=account, amount=Amount(1))
    async with eb.open_async(path, create=False) as store:
        executor = eb.AsyncExecutor(store)
        # The first read of the stream is measured by a row of its own.
        await executor.load(Account(account))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        end = time.perf_counter() + seconds

        async def work(task: int) -> None:
            nonlocal attempts
            while time.perf_counter() < end:
                done = await executor.execute(command)
                counts[task] += 1
                attempts = max(attempts, done.attempts)

        async with asyncio.TaskGroup() as group:
            for task in range(tasks):
                group.create_task(work(task))
    print(json.dumps({"counts": counts, "attempts": attempts}), flush=True)


if __name__ == "__main__":
    path, account, tasks, seconds = sys.argv[1:]
    asyncio.run(main(path, account, int(tasks), float(seconds)))
