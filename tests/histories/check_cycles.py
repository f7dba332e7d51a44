"""Check that commits and snapshots have one order, by a search for cycles.

As in Elle: every commit, check and snapshot is one transaction over several streams. One
precedes another if it wrote the previous version (`ww`), if it wrote the version that the
other read (`wr`), if it read the version that the other replaced (`rw`), or if it
returned before the other was called (`real time`). In a store with one global order
these edges form no cycle.

Only versions determine the edges; positions are not used.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from tests.histories.history import (
    Append,
    Finding,
    History,
    Read,
    SnapshotRead,
    StreamRead,
    VersionRead,
)
from tests.histories.log import Log

BY = "cycles"


@dataclass(slots=True)
class Transaction:
    """The reads and writes of one operation.

    Attributes:
        what: A description.
        invoked: The time of the call.
        returned: The time of the result, if there is one.
        reads: The versions that it read.
        writes: The first and the last version that it wrote of each stream.
    """

    what: str
    invoked: int
    returned: int | None
    reads: dict[str, int] = field(default_factory=dict)
    writes: dict[str, tuple[int, int]] = field(default_factory=dict)


def check_cycles(history: History, log: Log) -> list[Finding]:
    """Search for cycles of transactions that each precede the next."""
    transactions = [
        *_of_appends(history, log),
        *(t for process, read in history.reads for t in _of_read(process, read)),
    ]
    graph = _Graph(transactions)
    findings = [Finding("wrong", BY, text) for text in graph.partial_reads]
    for component in _components(graph.edges):
        nodes = [node for node in component if node < len(transactions)]
        if len(nodes) > 1:
            findings.append(
                Finding("wrong", BY, graph.describe_cycle(nodes[0], component))
            )
    return findings


def _of_appends(history: History, log: Log) -> Iterator[Transaction]:
    first_called: dict[str | None, int] = {}
    for append in history.appends:
        earlier = first_called.get(append.commit, append.invoked)
        first_called[append.commit] = min(earlier, append.invoked)
    seen: set[str] = set()
    for append in sorted(history.appends, key=_by_certainty):
        done, invoked = append.done, append.invoked
        if append.refused is not None:
            if append.refused.failures:
                yield _transaction(append, invoked, _conflicting(append), {})
        elif not append.request.events:
            if done is not None and not done.replayed:
                yield _transaction(append, invoked, _exact(append), {})
        elif append.commit in log.named and append.commit not in seen:
            # Several attempts with a key are one commit. If it is unknown which one wrote
            # it, the first one restricts the order least.
            seen.add(append.commit)
            if done is None or done.replayed:
                invoked = first_called[append.commit]
            yield _transaction(append, invoked, _exact(append), _written(append, log))


def _written(append: Append, log: Log) -> dict[str, tuple[int, int]]:
    writes: dict[str, tuple[int, int]] = {}
    for entry in log.named[append.commit].entries:
        first, _ = writes.get(entry.stream, (entry.version, 0))
        writes[entry.stream] = first, entry.version
    return writes


def _by_certainty(append: Append) -> tuple[int, int]:
    """Sort attempts that certainly wrote the commit before those that may have."""
    done = append.done
    rank = 2 if done is None else int(done.replayed)
    return rank, append.invoked


def _exact(append: Append) -> dict[str, int]:
    """Return the versions that the success of an append proves."""
    known = {
        stream: 0 if expected == "no_stream" else expected
        for stream, expected in append.request.expect.items()
    }
    return {stream: v for stream, v in known.items() if isinstance(v, int)}


def _conflicting(append: Append) -> dict[str, int]:
    """Return the versions that a conflict proves, of failing and of other streams."""
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
    """The edges between transactions; further nodes stand for moments in time."""

    def __init__(self, transactions: list[Transaction]) -> None:
        self.transactions = transactions
        self.edges: list[dict[int, str]] = [{} for _ in transactions]
        self.partial_reads: list[str] = []
        self._order_streams()
        self._order_times()

    def _order_streams(self) -> None:
        writers: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for number, one in enumerate(self.transactions):
            for stream, (first, last) in one.writes.items():
                writers[stream].append((first, last, number))
        for stream, writes in writers.items():
            writes.sort()
            for (_, _, before), (_, _, after) in pairwise(writes):
                self.edges[before][after] = f"ww {stream}"
        for number, one in enumerate(self.transactions):
            for stream, version in one.reads.items():
                self._read(number, stream, version, writers[stream])

    def _read(
        self, number: int, stream: str, version: int, writes: list[tuple[int, int, int]]
    ) -> None:
        at = bisect_left(writes, version + 1, key=lambda write: write[0])
        if at:
            first, last, writer = writes[at - 1]
            self.edges[writer][number] = f"wr {stream} {version}"
            if first <= version < last:
                reader = self.transactions[number].what
                text = f"{reader} read {stream} at {version}, in the middle of "
                self.partial_reads.append(text + self.transactions[writer].what)
        if at < len(writes):
            self.edges[number][writes[at][2]] = f"rw {stream} {version}"

    def _order_times(self) -> None:
        """Chain the moments of results: each result precedes all later calls."""
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

    def describe_cycle(self, start: int, component: set[int]) -> str:
        """Return the shortest cycle from a transaction back to it."""
        predecessor: dict[int, int] = {}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            for after in self.edges[node].keys() & component:
                if after == start:
                    return self._path(start, node, predecessor)
                if after not in predecessor:
                    predecessor[after] = node
                    queue.append(after)
        return "a cycle without a path"

    def _path(self, start: int, end: int, predecessor: dict[int, int]) -> str:
        nodes = [start, end]
        while nodes[-1] != start:
            nodes.append(predecessor[nodes[-1]])
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
    """Find the strongly connected components (Tarjan), without recursion."""
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
                        component.add(process := stack.pop())
                        on_stack.discard(process)
                    yield component
