"""A process that opens accounts until the rule of the command refuses one.

Started by tests/failure/test_category_processes.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import eventbraid as eb

MAXIMUM = 40


@eb.event("creator.opened")
class Opened: ...


class Account(eb.Stream[Opened], category="account"): ...


class Open(eb.Command):
    account: eb.Declared[Account]

    def discover(self) -> Iterator[type[Account]]:
        yield Account

    def decide(self) -> Iterator[eb.Write]:
        eb.require(len(self.discovered(Account)) < MAXIMUM, "too_many")
        yield self.account.write(Opened())


def run(path: str, name: str) -> None:
    """Open accounts, and print the id of each as soon as it is acknowledged."""
    with eb.open(path) as store:
        executor = eb.Executor(store, retry=eb.RetryPolicy(maximum_attempts=100))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        for number in range(MAXIMUM + 1):
            account = f"account-{name}-{number}"
            try:
                executor.execute(Open(account=account))
            except eb.CommandRejected:
                break
            sys.stdout.write(f"{account}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    run(*sys.argv[1:])
