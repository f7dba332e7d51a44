"""Takes a role and works under it on request, until the test kills or stops it.

    python role_victim.py STORE

It says ``taken TOKEN``; then for each line on its input it appends that line under the
role and says ``done``, or ``lost``. ``release`` lets the role go and ends it.
"""

from __future__ import annotations

import sys
from datetime import timedelta

import eventbraid as eb


def say(what: str) -> None:
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


def work(role: eb.Role) -> None:
    for line in sys.stdin:
        if line.strip() == "release":
            return
        try:
            role.append([("work-1", line.strip(), b"")])
        except eb.RoleLost:
            say("lost")
            return
        say("done")


def main() -> None:
    with eb.open(sys.argv[1]) as store:
        role = eb.Role(store, "importer", stale_after=timedelta(minutes=5), wait=None)
        try:
            with role:
                say(f"taken {role.token}")
                work(role)
        except eb.RoleLost:
            say("refused")


if __name__ == "__main__":
    main()
