"""Is there an order of whole commits and snapshots? Told by looking for cycles.

As in Elle: every commit, check and snapshot is one transaction over several streams. One
comes before another if it wrote the version before (`ww`), if it wrote what the other read
(`wr`), if it read what the other replaced (`rw`), or if it was answered before the other
was asked for (`real time`). In a store with one global order these never run in a circle.

Versions alone say what came before what; positions are not looked at.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from tests.histories.log import Log
from tests.histories.history import (
    Append,
    Finding,
    History,
    Read,
    SnapshotRead,
    StreamRead,
    VersionRead,
)

BY = "cycles"


@dataclass(slots=True)
class Transaction:
    """What one operation read and wrote.

    Attributes:
        what: What it was, for people.
        invoked: When it was asked for.
        returned: When it was answered, if it was.
        reads: The versions it saw.
        writes: The versions it made of each stream: the first and the last.
    """

    what: str
    invoked: int
    returned: int | None
    reads: dict[str, int] = field(default_factory=dict)
    writes: dict[str, tuple[int, int]] = field(default_factory=dict)


def check_cycles(history: History, log: Log) -> list[Finding]:
    """Look for transactions that each come before the next, and the last before the first."""
    transactions = [
        *_of_appends(history, log),
        *(t for process, read in history.reads for t in _of_read(process, read)),
    ]
    graph = _Graph(transactions)
    findings = [Finding("wrong", BY, text) for text in graph.halves]
    for component in _components(graph.edges):
        members = [node for node in component if node < len(transactions)]
        if len(members) > 1:
            findings.append(Finding("wrong", BY, graph.told(members[0], component)))
    return findings


def _of_appends(history: History, log: Log) -> Iterator[Transaction]:
    first_asked: dict[str | None, int] = {}
    for append in history.appends:
        earlier = first_asked.get(append.commit, append.invoked)
        first_asked[append.commit] = min(earlier, append.invoked)
    seen: set[str] = set()
    for append in sorted(history.appends, key=_surest_first):
        done, invoked = append.done, append.invoked
        if append.refused is not None:
            if append.refused.failures:
                yield _transaction(append, invoked, _conflicting(append), {})
        elif not append.asked.events:
            if done is not None and not done.replayed:
                yield _transaction(append, invoked, _exact(append), {})
        elif append.commit in log.named and append.commit not in seen:
            # Several attempts under a key are one commit; which one it was is not always
            # known, and the first demands the least of time.
            seen.add(append.commit)
            if done is None or done.replayed:
                invoked = first_asked[append.commit]
            yield _transaction(append, invoked, _exact(append), _written(append, log))


def _written(append: Append, log: Log) -> dict[str, tuple[int, int]]:
    writes: dict[str, tuple[int, int]] = {}
    for entry in log.named[append.commit].entries:
        first, _ = writes.get(entry.stream, (entry.version, 0))
        writes[entry.stream] = first, entry.version
    return writes


def _surest_first(append: Append) -> tuple[int, int]:
    """An attempt that says that it did it tells more of the time than one that may have."""
    done = append.done
    rank = 2 if done is None else int(done.replayed)
    return rank, append.invoked


def _exact(append: Append) -> dict[str, int]:
    """The versions that its success says that it saw."""
    known = {
        stream: 0 if expected == "no_stream" else expected
        for stream, expected in append.asked.expect.items()
    }
    return {stream: v for stream, v in known.items() if isinstance(v, int)}


def _conflicting(append: Append) -> dict[str, int]:
    """The versions that a conflict says that it saw: of what failed and of what did not."""
    failures = {stream: actual for stream, _, actual in append.refused.failures}
    return {**_exact(append), **failures}


def _transaction(
    append: Append,
    invoked: int,
    reads: dict[str, int],
    writes: dict[str, tuple[int, int]],
) -> Transaction:
    others = {stream: v for stream, v in reads.items() if stream not in writes}
    return Transaction(str(append), invoked, append.returned, others, writes)


def _of_read(process: str, read: Read) -> Iterator[Transaction]:
    what = f"{type(read).__name__} of {process}"
    match read:
        case SnapshotRead():
            reads = dict(read.versions)
        case VersionRead():
            reads = {read.stream: read.version}
        case StreamRead() if read.entries or not read.after:
            reads = {read.stream: read.after + len(read.entries)}
        case _:
            return
    yield Transaction(f"{what} {reads}", read.invoked, read.returned, reads)


class _Graph:
    """Who comes before whom; beyond the transactions, nodes stand for moments of time."""

    def __init__(self, transactions: list[Transaction]) -> None:
        self.transactions = transactions
        self.edges: list[dict[int, str]] = [{} for _ in transactions]
        self.halves: list[str] = []
        self._order_streams()
        self._order_times()

    def _order_streams(self) -> None:
        writers: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for number, one in enumerate(self.transactions):
            for stream, (first, last) in one.writes.items():
                writers[stream].append((first, last, number))
        for stream, made in writers.items():
            made.sort()
            for (_, _, before), (_, _, after) in pairwise(made):
                self.edges[before][after] = f"ww {stream}"
        for number, one in enumerate(self.transactions):
            for stream, version in one.reads.items():
                self._read(number, stream, version, writers[stream])

    def _read(
        self, number: int, stream: str, version: int, made: list[tuple[int, int, int]]
    ) -> None:
        at = bisect_left(made, version + 1, key=lambda write: write[0])
        if at:
            first, last, writer = made[at - 1]
            self.edges[writer][number] = f"wr {stream} {version}"
            if first <= version < last:
                reader = self.transactions[number].what
                half = f"{reader} saw {stream} at {version}, in the middle of "
                self.halves.append(half + self.transactions[writer].what)
        if at < len(made):
            self.edges[number][made[at][2]] = f"rw {stream} {version}"

    def _order_times(self) -> None:
        """Chain the moments of answers: each answer leads to all later askings."""
        ended = sorted(
            (one.returned, number)
            for number, one in enumerate(self.transactions)
            if one.returned is not None
        )
        moments = [at for at, _ in ended]
        base = len(self.transactions)
        self.edges.extend({} for _ in ended)
        for index, (_, number) in enumerate(ended):
            self.edges[number][base + index] = "real time"
            if index + 1 < len(ended):
                self.edges[base + index][base + index + 1] = "real time"
        for number, one in enumerate(self.transactions):
            before = bisect_left(moments, one.invoked)
            if before:
                self.edges[base + before - 1][number] = "real time"

    def told(self, start: int, component: set[int]) -> str:
        """Return the shortest cycle from a transaction back to it."""
        came: dict[int, int] = {}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            for after in self.edges[node].keys() & component:
                if after == start:
                    return self._path(start, node, came)
                if after not in came:
                    came[after] = node
                    queue.append(after)
        return "a circle that leads nowhere"

    def _path(self, start: int, end: int, came: dict[int, int]) -> str:
        nodes = [start, end]
        while nodes[-1] != start:
            nodes.append(came[nodes[-1]])
        nodes.reverse()
        parts = []
        for before, after in pairwise(nodes):
            if before < len(self.transactions):
                parts.append(self.transactions[before].what)
            why = self.edges[before][after]
            if parts[-1] != f"-[{why}]->":
                parts.append(f"-[{why}]->")
        return " ".join([*parts, "itself"])


def _components(edges: list[dict[int, str]]) -> Iterator[set[int]]:
    """The sets of nodes that lead to each other (Tarjan), without recursion."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in range(len(edges)):
        if root in order:
            continue
        work = [(root, iter(edges[root]))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for after in rest:
                if after not in order:
                    order[after] = low[after] = len(order)
                    stack.append(after)
                    on_stack.add(after)
                    work.append((after, iter(edges[after])))
                    break
                if after in on_stack:
                    low[node] = min(low[node], order[after])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    component = set()
                    while node not in component:
                        component.add(member := stack.pop())
                        on_stack.discard(member)
                    yield component
