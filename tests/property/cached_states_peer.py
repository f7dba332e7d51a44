"""Another process that executes commands on the store of test_cached_states.

It reads lines of JSON from standard input, `{"path": ..., "stream": ..., "amount": ...}`,
and answers each with a line. A line with another path closes the store of the former one,
and a line without a path closes it as well.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import eventbraid as eb
from tests.property.cached_states import PROGRAMS, Amount


def main() -> None:
    path: str | None = None
    store: eb.EventStore | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("path") != path:
            if store is not None:
                store.close()
            path = asked.get("path")
            store = None if path is None else eb.open(path)
        if store is not None:
            add = PROGRAMS[1].add(asked["stream"], Amount(asked["amount"]))
            with suppress(eb.CommandRejected):
                eb.Executor(store).execute(add)
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
