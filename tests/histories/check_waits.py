"""Was everyone answered, and every subscription served, within a bound?

A wake-up that is lost shows in no answer: only in one that never comes, or comes late.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from tests.histories.log import Log
from tests.histories.history import Finding, Followed, History

BY = "waits"
BOUND = 8_000_000_000
"""Nanoseconds: longer than any process is stopped and any lock is waited for."""


def check_waits(history: History, log: Log, bound: int = BOUND) -> list[Finding]:
    """Find who waited for longer than a bound, in nanoseconds, or in vain."""
    return [*_unanswered(history, bound), *_unserved(history, log, bound)]


def _unanswered(history: History, bound: int) -> Iterator[Finding]:
    for append in history.appends:
        heard = history.heard.get(append.process, append.invoked)
        until = heard if append.answer is None else append.answer.at
        if until - append.invoked > bound:
            how = "no answer" if append.answer is None else "its answer"
            what = f"{append} waited {(until - append.invoked) / 1e9:.1f} s for {how}"
            yield Finding("wrong", BY, what)


def _unserved(history: History, log: Log, bound: int) -> Iterator[Finding]:
    """By its end, a subscription has brought all that was acknowledged long before."""
    acknowledged = sorted(
        (append.answer.at, append.commit)
        for append in history.appends
        if append.done is not None and append.commit in log.named
    )
    times = [at for at, _ in acknowledged]
    for followed in history.followed:
        due = bisect_right(times, followed.until - bound)
        # What it began after is due when it began, so at least one bound later.
        if not due or followed.until - followed.begun.since < bound:
            continue
        yield from _behind(followed, log, [name for _, name in acknowledged[:due]])


def _behind(followed: Followed, log: Log, names: list[str | None]) -> Iterator[Finding]:
    begun = followed.begun
    reached = max((one.entry.position for one in followed.delivered), default=0)
    for name in names:
        for entry in log.named[name].entries:
            if entry.position <= max(reached, begun.after):
                continue
            if begun.prefix is None or entry.stream.startswith(begun.prefix):
                who = f"subscription {begun.subscriber} of {followed.process}"
                what = f"{who} ended at {reached}, long after {entry} was due"
                yield Finding("wrong", BY, what)
                return
