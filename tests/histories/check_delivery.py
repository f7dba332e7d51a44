"""Check that every subscription delivered the log: in order, without gaps, once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from tests.histories.history import Entry, Finding, History, Subscription
from tests.histories.log import Log

BY = "delivery"


def check_delivery(history: History, log: Log) -> list[Finding]:
    """Compare the events of each subscription with the log."""
    return [
        finding
        for subscription in history.subscriptions
        for finding in _of_one(subscription, log)
    ]


def _of_one(subscription: Subscription, log: Log) -> Iterator[Finding]:
    # Events in an earlier part of the log were checked with that part.
    entries = (delivered.entry for delivered in subscription.delivered)
    got = [entry for entry in entries if entry.position > log.base]
    if not got:
        return
    due = _due(subscription, log, got)
    for have, want in zip_longest(got, due):
        if have != want:
            name = f"subscription {subscription.begun.subscriber} of {subscription.process}"
            yield Finding("wrong", BY, f"{name} delivered {have}, expected {want}")
            return


def _due(subscription: Subscription, log: Log, got: list[Entry]) -> list[Entry]:
    """Return the expected events, up to the last delivered position."""
    last = max(entry.position for entry in got)
    begun = subscription.begun
    return [
        entry
        for entry in log.after(begun.after)
        if entry.position <= last
        and (begun.prefix is None or entry.stream.startswith(begun.prefix))
    ]
