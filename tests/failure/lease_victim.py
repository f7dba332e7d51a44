"""Takes a lease and works under it on request, until the test kills or stops it.

    python lease_victim.py STORE

It says ``taken TOKEN``; then for each line on its input it appends that line under the
lease and says ``done``, or ``lost``. ``release`` lets the lease go and ends it.
"""

from __future__ import annotations

import sys
from datetime import timedelta

import eventbraid as eb


def say(what: str) -> None:
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


def work(lease: eb.Lease) -> None:
    for line in sys.stdin:
        if line.strip() == "release":
            return
        try:
            lease.append([("work-1", line.strip(), b"")])
        except eb.errors.LeaseLost:
            say("lost")
            return
        say("done")


def main() -> None:
    with eb.open(sys.argv[1]) as store:
        lease = eb.Lease(store, "importer", stale_after=timedelta(minutes=5), wait=None)
        try:
            with lease:
                say(f"taken {lease.token}")
                work(lease)
        except eb.errors.LeaseLost:
            say("refused")


if __name__ == "__main__":
    main()
