"""Check that every append returned within a bound, and that no subscription got stuck.

A lost wake-up changes no result: a result is only missing or late. On a busy machine, a
subscription may deliver more slowly than several processes append. So it may lag behind
for any time, but while an event is due, it must deliver one within the bound.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from tests.histories.history import Finding, History, Subscription
from tests.histories.log import Log

BY = "waits"
BOUND = 8_000_000_000
"""In nanoseconds: more than the longest stop of a process and the longest lock timeout."""


def check_waits(history: History, log: Log, bound: int = BOUND) -> list[Finding]:
    """Find appends and subscriptions that waited for longer than a bound."""
    return [*_unanswered(history, bound), *_unserved(history, log, bound)]


def _unanswered(history: History, bound: int) -> Iterator[Finding]:
    for append in history.appends:
        last_line_at = history.last_line_at.get(append.process, append.invoked)
        until = last_line_at if append.answer is None else append.answer.at
        if until - append.invoked > bound:
            outcome = "no result" if append.answer is None else "its result"
            text = (
                f"{append} waited {(until - append.invoked) / 1e9:.1f} s for {outcome}"
            )
            yield Finding("wrong", BY, text)


def _unserved(history: History, log: Log, bound: int) -> Iterator[Finding]:
    """Find subscriptions that delivered nothing until their end, although events were due."""
    acknowledged = sorted(
        (append.answer.at, append.commit)
        for append in history.appends
        if append.done is not None and append.commit in log.named
    )
    times = [at for at, _ in acknowledged]
    for subscription in history.subscriptions:
        due = bisect_right(times, subscription.until - bound)
        # Earlier events are due when it begins, so it must run for at least one bound.
        last = max((one.at for one in subscription.delivered), default=0)
        idle = subscription.until - max(subscription.begun.since, last)
        if not due or idle < bound:
            continue
        yield from _behind(subscription, log, [name for _, name in acknowledged[:due]])


def _behind(
    subscription: Subscription, log: Log, names: list[str | None]
) -> Iterator[Finding]:
    begun = subscription.begun
    reached = max((one.entry.position for one in subscription.delivered), default=0)
    for name in names:
        for entry in log.named[name].entries:
            if entry.position <= max(reached, begun.after):
                continue
            if begun.prefix is None or entry.stream.startswith(begun.prefix):
                behind = f"subscription {begun.subscriber} of {subscription.process}"
                text = f"{behind} got stuck at {reached}, although {entry} was due"
                yield Finding("wrong", BY, text)
                return
