"""Does the order of positions agree with real time, for everything that was answered?

The store promises one global order. So each operation has one state of the log, named by
the position of its last event, as of which its answer is true; a read may have several.
Whoever asks after an answer was given must be answered as of that state or a later one.

The log is known in the end, and a version or a position names a state; so whether there is
such an assignment is decided exactly, by one sweep over time that gives each operation the
earliest state that it may have.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.histories.check_log import differences
from tests.histories.log import ENDLESS, Commit, Log
from tests.histories.history import (
    Append,
    Expected,
    Finding,
    HeadRead,
    History,
    LogRead,
    Read,
    SnapshotRead,
    StreamRead,
    VersionRead,
)

BY = "order"


@dataclass(frozen=True, slots=True)
class Claim:
    """An operation, and the states as of which its answer is true.

    Attributes:
        what: What it was, for people.
        invoked: When it was asked for.
        returned: When it was answered; `None`, if it never was.
        low: The earliest of the states.
        high: The latest of the states.
        writes: Whether it made the state `low`, and so had to see one before it.
    """

    what: str
    invoked: int
    returned: int | None
    low: int
    high: int
    writes: Commit | None = None

    def latest_seen(self) -> int:
        """The latest state that may have been shown to anyone before it was asked for."""
        return self.high if self.writes is None else self.writes.first - 1


def check_order(history: History, log: Log) -> list[Finding]:
    """Hold every answer against the log, and their order in time against its order."""
    findings: list[Finding] = []
    claims = list(_claims(history, log, findings))
    return [*findings, *_sweep(claims)]


def _sweep(claims: list[Claim]) -> Iterator[Finding]:
    """Assign the earliest possible state to each, in the order of the requests."""
    shown, by = 0, _Who(-1, "nobody")
    under_way: list[tuple[int, int, _Who]] = []
    for number, claim in enumerate(sorted(claims, key=lambda claim: claim.invoked)):
        # What was answered in the same nanosecond may have been answered after.
        while under_way and under_way[0][0] < claim.invoked:
            _, state, who = heapq.heappop(under_way)
            if state > shown:
                shown, by = state, who
        if shown > claim.latest_seen():
            what = f"{claim.what} is true as of {claim.low} to {claim.high}, and "
            told = f"{by} had been told of {shown} before it was asked for"
            yield Finding("wrong", BY, what + told)
            continue
        if claim.returned is not None:
            state = max(claim.low, shown)
            heapq.heappush(under_way, (claim.returned, state, _Who(number, claim.what)))


@dataclass(frozen=True, slots=True, order=True)
class _Who:
    number: int
    what: str

    def __str__(self) -> str:
        return self.what


# --- what each operation claims


def _claims(history: History, log: Log, findings: list[Finding]) -> Iterator[Claim]:
    yield from _of_commits(history, log, findings)
    for append in history.appends:
        yield from _of_append(append, log, findings)
    for process, read in history.reads:
        yield from _of_read(process, read, log, findings)
    for followed in history.followed:
        for delivered in followed.delivered:
            position = delivered.entry.position
            what = f"a delivery of {position} to {followed.process}"
            yield Claim(what, delivered.at, delivered.at, position, ENDLESS)


def _of_commits(history: History, log: Log, findings: list[Finding]) -> Iterator[Claim]:
    """Each commit of the log was made by one of its attempts, after it was asked for."""
    attempts: dict[str, list[Append]] = {}
    for append in history.appends:
        if append.commit is not None and append.refused is None:
            attempts.setdefault(append.commit, []).append(append)
    for commit in log.commits:
        by = _maker(attempts.get(commit.name, []))
        if by is None:
            continue  # `check_log` says so.
        findings.extend(_unmet(by, commit, log))
        yield Claim(str(by), by.invoked, by.returned, commit.last, commit.last, commit)


def _maker(attempts: list[Append]) -> Append | None:
    """Which attempt did it: the one that says so, else at worst the first."""
    sure = [a for a in attempts if a.done is not None and not a.done.replayed]
    # Without one that says so, it may have been any: the first demands the least of time.
    likely = sure or [a for a in attempts if a.done is None]
    return min(likely, key=lambda append: append.invoked, default=None)


def _unmet(append: Append, commit: Commit, log: Log) -> Iterator[Finding]:
    for stream, expected in append.asked.expect.items():
        version = log.version_at(stream, commit.first - 1)
        if not holds(expected, version):
            what = f"{append} expected {expected} of {stream}, which was at {version}"
            yield Finding("wrong", BY, f"{what} when it was committed")


def _of_append(append: Append, log: Log, findings: list[Finding]) -> Iterator[Claim]:
    """What an answer says besides a commit that it made: see `_of_commits`."""
    spans: list[tuple[int, int] | None] = []
    if (done := append.done) is not None:
        if done.replayed:
            spans.append((done.last or 0, ENDLESS))
        elif not append.asked.events:
            spans.extend(
                span_of_holding(log, stream, expected)
                for stream, expected in append.asked.expect.items()
            )
        else:
            return
    elif append.refused is not None and append.refused.failures:
        spans.extend(_of_conflict(append, log, findings))
    else:
        return
    yield from _within(spans, str(append), append.invoked, append.returned, findings)


def _of_conflict(
    append: Append, log: Log, findings: list[Finding]
) -> Iterator[tuple[int, int] | None]:
    """A conflict names every stream that failed: the others were as expected."""
    named = {stream: actual for stream, _, actual in append.refused.failures}
    for stream, expected in append.asked.expect.items():
        if stream not in named:
            yield span_of_holding(log, stream, expected)
            continue
        actual = named[stream]
        if holds(expected, actual):
            what = f"{append} failed on {stream} at {actual}, expected {expected}"
            findings.append(Finding("wrong", BY, what))
        yield log.span_of(stream, actual, actual)


def _of_read(
    process: str, read: Read, log: Log, findings: list[Finding]
) -> Iterator[Claim]:
    what = f"{type(read).__name__} of {process}"
    span, seen = _seen_by(read, log)
    findings.extend(
        Finding("wrong", BY, f"{what}: {difference}")
        for difference in differences(seen, log)
    )
    if isinstance(read, SnapshotRead) and (bad := _misfit(read, log)):
        findings.append(Finding("wrong", BY, f"{what}: {bad}"))
    shown = f"{what} ({_short(read)})"
    yield from _within([span], shown, read.invoked, read.returned, findings)


def _seen_by(read: Read, log: Log) -> tuple[tuple[int, int] | None, tuple]:
    match read:
        case StreamRead():
            reached = read.after + len(read.entries)
            least = reached if read.entries else 0
            return log.span_of(read.stream, least, reached), read.entries
        case LogRead():
            if not read.entries:
                return (log.base, read.after), ()
            return _boundary(log, read.after + len(read.entries)), read.entries
        case SnapshotRead():
            return _boundary(log, read.position), read.entries
        case HeadRead():
            return _boundary(log, read.position), ()
        case VersionRead():
            return log.span_of(read.stream, read.version, read.version), ()


def _boundary(log: Log, position: int) -> tuple[int, int] | None:
    """A position that a reader saw as the last one must be the end of a commit."""
    return (position, position) if log.is_boundary(position) else None


def _misfit(read: SnapshotRead, log: Log) -> str | None:
    """What of a snapshot is not as of its position."""
    for stream, version in read.versions.items():
        if version != (stood := log.version_at(stream, read.position)):
            return f"{stream} at {version} as of {read.position}, it was at {stood}"
    return None


def _within(
    spans: Iterable[tuple[int, int] | None],
    what: str,
    invoked: int,
    returned: int | None,
    findings: list[Finding],
) -> Iterator[Claim]:
    """Claim the states that lie in all spans; there must be one."""
    low, high = 0, ENDLESS
    for span in spans:
        if span is None:
            findings.append(Finding("wrong", BY, f"{what} was never true"))
            return
        low, high = max(low, span[0]), min(high, span[1])
    if low > high:
        findings.append(Finding("wrong", BY, f"{what} was never true at one time"))
        return
    yield Claim(what, invoked, returned, low, high)


def holds(expected: Expected, version: int) -> bool:
    """Whether a stream of this version is as expected."""
    match expected:
        case "any":
            return True
        case "no_stream":
            return version == 0
        case "exists":
            return version > 0
        case exact:
            return version == exact


def span_of_holding(
    log: Log, stream: str, expected: Expected
) -> tuple[int, int] | None:
    """The positions at which a stream was as expected."""
    match expected:
        case "any":
            return 0, ENDLESS
        case "no_stream":
            return log.span_of(stream, 0, 0)
        case "exists":
            return log.span_of(stream, 1, ENDLESS)
        case exact:
            return log.span_of(stream, exact, exact)


def _short(read: Read) -> str:
    text = str(read)
    return text if len(text) < 200 else text[:200] + "..."
