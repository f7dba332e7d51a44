"""Check that the order of positions agrees with real time, for every result.

The store promises one global order. So the result of each operation is true as of one
state of the log, identified by the position of its last event, or of several states for a
read. An operation that is called after that result must be true as of the same state or a
later one.

The final log is known, and a version or a position identifies a state. So one sweep over
time, which assigns to each operation its earliest possible state, decides exactly whether
such an assignment exists.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.histories.check_log import differences
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
from tests.histories.log import UNBOUNDED, Commit, Log

BY = "order"


@dataclass(frozen=True, slots=True)
class Claim:
    """An operation, and the states as of which its result is true.

    Attributes:
        what: A description.
        invoked: The time of the call.
        returned: The time of the result; `None` without a result.
        low: The earliest of the states.
        high: The latest of the states.
        writes: The commit that produced the state `low`, which must follow the state that
            it read.
    """

    what: str
    invoked: int
    returned: int | None
    low: int
    high: int
    writes: Commit | None = None

    def latest_seen(self) -> int:
        """Return the latest state that any result before its call may have shown."""
        return self.high if self.writes is None else self.writes.first - 1


def check_order(history: History, log: Log) -> list[Finding]:
    """Compare every result with the log, and the order of results with its order."""
    findings: list[Finding] = []
    claims = list(_claims(history, log, findings))
    return [*findings, *_sweep(claims)]


def _sweep(claims: list[Claim]) -> Iterator[Finding]:
    """Assign the earliest possible state to each operation, in the order of calls."""
    shown, source = 0, _Source(-1, "no operation")
    pending: list[tuple[int, int, _Source]] = []
    for number, claim in enumerate(sorted(claims, key=lambda claim: claim.invoked)):
        # A result in the same nanosecond may have come after the call.
        while pending and pending[0][0] < claim.invoked:
            _, state, candidate = heapq.heappop(pending)
            if state > shown:
                shown, source = state, candidate
        if shown > claim.latest_seen():
            claimed = f"{claim.what} is true as of {claim.low} to {claim.high}, but "
            earlier = f"{source} had returned {shown} before its call"
            yield Finding("wrong", BY, claimed + earlier)
            continue
        if claim.returned is not None:
            state = max(claim.low, shown)
            heapq.heappush(
                pending, (claim.returned, state, _Source(number, claim.what))
            )


@dataclass(frozen=True, slots=True, order=True)
class _Source:
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
    for subscription in history.subscriptions:
        for delivered in subscription.delivered:
            position = delivered.entry.position
            what = f"a delivery of {position} to {subscription.process}"
            yield Claim(what, delivered.at, delivered.at, position, UNBOUNDED)


def _of_commits(history: History, log: Log, findings: list[Finding]) -> Iterator[Claim]:
    """Claim for each commit that one of its attempts wrote it, after its call."""
    attempts: dict[str, list[Append]] = {}
    for append in history.appends:
        if append.commit is not None and append.refused is None:
            attempts.setdefault(append.commit, []).append(append)
    for commit in log.commits:
        writer = _writer_of(attempts.get(commit.name, []))
        if writer is None:
            continue  # `check_log` reports it.
        findings.extend(_unmet(writer, commit, log))
        yield Claim(
            str(writer),
            writer.invoked,
            writer.returned,
            commit.last,
            commit.last,
            commit,
        )


def _writer_of(attempts: list[Append]) -> Append | None:
    """Return the attempt that wrote a commit, or the first one that may have."""
    certain = [a for a in attempts if a.done is not None and not a.done.replayed]
    # If no attempt certainly wrote it, the first one restricts the order least.
    possible = certain or [a for a in attempts if a.done is None]
    return min(possible, key=lambda append: append.invoked, default=None)


def _unmet(append: Append, commit: Commit, log: Log) -> Iterator[Finding]:
    for stream, expected in append.request.expect.items():
        version = log.version_at(stream, commit.first - 1)
        if not holds(expected, version):
            what = f"{append} expected {expected} of {stream}, which was at {version}"
            yield Finding("wrong", BY, f"{what} when it was committed")


def _of_append(append: Append, log: Log, findings: list[Finding]) -> Iterator[Claim]:
    """Claim the states of a replay, a check or a conflict; `_of_commits` has commits."""
    spans: list[tuple[int, int] | None] = []
    if (done := append.done) is not None:
        if done.replayed:
            spans.append((done.last or 0, UNBOUNDED))
        elif not append.request.events:
            spans.extend(
                span_of_holding(log, stream, expected)
                for stream, expected in append.request.expect.items()
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
    """Return the states of a conflict, which names every failing stream and no other."""
    named = {stream: actual for stream, _, actual in append.refused.failures}
    for stream, expected in append.request.expect.items():
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
    span, entries = _result_of(read, log)
    findings.extend(
        Finding("wrong", BY, f"{what}: {difference}")
        for difference in differences(entries, log)
    )
    if isinstance(read, SnapshotRead) and (bad := _wrong_version(read, log)):
        findings.append(Finding("wrong", BY, f"{what}: {bad}"))
    shown = f"{what} ({_short(read)})"
    yield from _within([span], shown, read.invoked, read.returned, findings)


def _result_of(read: Read, log: Log) -> tuple[tuple[int, int] | None, tuple]:
    match read:
        case StreamRead():
            last = read.after + len(read.entries)
            minimum = last if read.entries else 0
            return log.span_of(read.stream, minimum, last), read.entries
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
    """Return the state at a position, which must be the end of a commit."""
    return (position, position) if log.is_boundary(position) else None


def _wrong_version(read: SnapshotRead, log: Log) -> str | None:
    """Describe a version in a snapshot that is not as of its position."""
    for stream, version in read.versions.items():
        if version != (actual := log.version_at(stream, read.position)):
            return f"{stream} at {version} as of {read.position}, it was at {actual}"
    return None


def _within(
    spans: Iterable[tuple[int, int] | None],
    what: str,
    invoked: int,
    returned: int | None,
    findings: list[Finding],
) -> Iterator[Claim]:
    """Claim the states in all spans, of which there must be one."""
    low, high = 0, UNBOUNDED
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
    """Whether a version meets an expectation."""
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
    """Return the positions at which a stream met an expectation."""
    match expected:
        case "any":
            return 0, UNBOUNDED
        case "no_stream":
            return log.span_of(stream, 0, 0)
        case "exists":
            return log.span_of(stream, 1, UNBOUNDED)
        case exact:
            return log.span_of(stream, exact, exact)


def _short(read: Read) -> str:
    text = str(read)
    return text if len(text) < 200 else text[:200] + "..."
