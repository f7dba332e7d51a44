"""Did every subscriber, in every process, see the log: in order, no gap, nothing twice?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from tests.histories.log import Log
from tests.histories.history import Entry, Finding, Followed, History

BY = "delivery"


def check_delivery(history: History, log: Log) -> list[Finding]:
    """Hold what each subscription brought against the log."""
    return [
        finding for followed in history.followed for finding in _of_one(followed, log)
    ]


def _of_one(followed: Followed, log: Log) -> Iterator[Finding]:
    # What stands in an earlier part of the log was due before this part is looked at.
    entries = (delivered.entry for delivered in followed.delivered)
    got = [entry for entry in entries if entry.position > log.base]
    if not got:
        return
    due = _due(followed, log, got)
    for have, want in zip_longest(got, due):
        if have != want:
            who = f"subscription {followed.begun.subscriber} of {followed.process}"
            yield Finding("wrong", BY, f"{who} brought {have} where {want} was due")
            return


def _due(followed: Followed, log: Log, got: list[Entry]) -> list[Entry]:
    """What it had to bring, up to the furthest that it brought."""
    furthest = max(entry.position for entry in got)
    begun = followed.begun
    return [
        entry
        for entry in log.after(begun.after)
        if entry.position <= furthest
        and (begun.prefix is None or entry.stream.startswith(begun.prefix))
    ]
