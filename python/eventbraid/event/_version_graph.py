"""The graph of event versions: which version is read by what, and what is missing.

A node of the graph is an event type with a version. A class reads a node directly. An
upcaster leads from its node to one or more others; without targets, it drops the event.
A former name is the same node as the current one, in the same version.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from eventbraid.event._event_type import EventType
    from eventbraid.event._upcasting import Upcaster

Node: TypeAlias = tuple[str, int]
"""An event type and a version."""

Problem: TypeAlias = tuple[str, str]
"""An event type, and the reason why it can't be read or isn't read in one way."""


def problems_of(
    types: Iterable[EventType],
    upcasters: Mapping[Node, Upcaster],
    formerly: Mapping[str, str],
) -> list[Problem]:
    """Return all doubles, cycles and gaps, ordered by event type."""
    graph = _Graph([*types], upcasters, formerly)
    found = [*graph.doubles(), *graph.cycles(), *graph.gaps()]
    return sorted(found, key=lambda problem: problem[0])


def sources_of(
    wanted: Iterable[Node],
    upcasters: Mapping[Node, Upcaster],
    formerly: Mapping[str, str],
) -> set[str]:
    """Return the recorded types from which upcasters or former names lead to nodes."""
    graph = _Graph([], upcasters, formerly)
    reached = {graph.current(node) for node in wanted}
    before = 0
    while before != len(reached):
        before = len(reached)
        for source, upcaster in graph.edges:
            if not reached.isdisjoint(map(graph.current, upcaster.targets)):
                reached.add(source)
    names = {name for name, _ in reached}
    return names | {former for former, name in formerly.items() if name in names}


class _Graph:
    """The nodes that classes and upcasters read, all under their current names."""

    def __init__(
        self,
        types: list[EventType],
        upcasters: Mapping[Node, Upcaster],
        formerly: Mapping[str, str],
    ) -> None:
        self._types = types
        self._formerly = formerly
        self.edges = [
            (self.current(source), upcaster) for source, upcaster in upcasters.items()
        ]
        self._readable = {source for source, _ in self.edges}
        self._readable |= {(one.name, one.version) for one in types}

    def current(self, node: Node) -> Node:
        name, version = node
        return self._formerly.get(name, name), version

    def doubles(self) -> Iterator[Problem]:
        """Find versions that could be read in two ways."""
        readers: defaultdict[Node, list[str]] = defaultdict(list)
        for one in self._types:
            kind = f"the class {one.kind.__module__}.{one.kind.__qualname__}"
            readers[one.name, one.version].append(kind)
        for source, upcaster in self.edges:
            readers[source].append(f"the upcaster {upcaster.name}")
        for (name, version), found in readers.items():
            if len(found) > 1:
                readers_of = " and ".join(found)
                yield (
                    name,
                    f"version {version} has several readers: {readers_of}; keep one",
                )

    def cycles(self) -> Iterator[Problem]:
        """Find upcasters that lead back to where they began."""
        targets = {
            source: [*map(self.current, upcaster.targets)]
            for source, upcaster in self.edges
        }
        done: set[Node] = set()
        for start in targets:
            cycle = _cycle_from(start, targets, done)
            if cycle:
                steps = " -> ".join(_described(node) for node in cycle)
                yield cycle[0][0], f"its upcasters form a cycle: {steps}; remove one"

    def gaps(self) -> Iterator[Problem]:
        """Find versions that an event may have, and that nothing reads."""
        reported: set[Node] = set()
        for source, upcaster in self.edges:
            for node in map(self.current, upcaster.targets):
                if node not in self._readable and node not in reported:
                    reported.add(node)
                    yield node[0], _unread_target(node, source, upcaster)
        for name, (oldest, versions) in self._expected_versions().items():
            for first, last in _missing(oldest, sorted(versions)):
                if first != last or (name, first) not in reported:
                    yield name, _unread_versions(name, first, last, min(versions))

    def _expected_versions(self) -> dict[str, tuple[int, set[int]]]:
        """Return the oldest version of each type, and the versions that are read."""
        versions: defaultdict[str, set[int]] = defaultdict(set)
        for name, version in self._readable:
            versions[name].add(version)
        oldest = {name: min(found) for name, found in versions.items()}
        declared: defaultdict[str, int] = defaultdict(int)
        for one in self._types:
            declared[one.name] = max(declared[one.name], one.oldest_version)
        oldest |= declared
        return {name: (oldest[name], found) for name, found in versions.items()}


def _cycle_from(
    start: Node, targets: Mapping[Node, list[Node]], done: set[Node]
) -> list[Node]:
    """Return the nodes of a cycle that can be reached from a node; none if there is no.

    Args:
        start: The node.
        targets: The targets of each node.
        done: The nodes from which no further cycle is searched; it is extended.
    """
    path: list[Node] = []
    todo: list[tuple[Node, bool]] = [(start, False)]
    while todo:
        node, is_left = todo.pop()
        if is_left:
            done.add(path.pop())
            continue
        if node in path:
            done.update(path)
            return [*path[path.index(node) :], node]
        if node in done:
            continue
        path.append(node)
        todo.append((node, True))
        todo += [(target, False) for target in targets.get(node, ())]
    return []


def _missing(oldest: int, versions: list[int]) -> Iterator[tuple[int, int]]:
    """Iterate over the gaps in versions, each with its first and last version.

    Versions may be large numbers, so the gaps are not enumerated.
    """
    expected = oldest
    for version in versions:
        if version > expected:
            yield expected, version - 1
        expected = max(expected, version + 1)


def _unread_target(node: Node, source: Node, upcaster: Upcaster) -> str:
    name, version = node
    return (
        f"version {version} can't be read: the upcaster {upcaster.name} leads to it "
        f"from {_described(source)}, but it has neither a class nor an upcaster; "
        f"register its class, or add @upcaster({name!r}, from_version={version})"
    )


def _unread_versions(name: str, first: int, last: int, lowest: int) -> str:
    versions = f"version {first}" if first == last else f"versions {first} to {last}"
    remedy = f"add @upcaster({name!r}, from_version={first})"
    if last < lowest:
        remedy += f", or oldest_version={lowest} if no log contains a lower one"
    return (
        f"{versions} can't be read: it has neither a class nor an upcaster; {remedy}"
        if first == last
        else f"{versions} can't be read: they have neither classes nor upcasters; "
        f"{remedy}"
    )


def _described(node: Node) -> str:
    name, version = node
    return f"{name!r} version {version}"
