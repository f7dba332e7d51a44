"""Upcasters of any shape: what a registry accepts, it reads, and exactly so.

Graphs of event types and versions are drawn at random, valid or not. A model judges
them with graphlib and reads events by recursion; registry and decoder must agree.
"""

from __future__ import annotations

import graphlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.event import (
    EventDecoder,
    EventRegistry,
    UpcastEvent,
    event_types,
    upcaster,
)

NAMES = ("a", "b", "c")
FORMER = "old-a"
VERSIONS = (1, 2, 3, 4)
SPLIT_LIMIT = 1_000

Node = tuple[str, int]
nodes = st.tuples(st.sampled_from((*NAMES, FORMER)), st.sampled_from(VERSIONS))


class Graph:
    """What is registered: readers of nodes, a former name, and oldest versions."""

    def __init__(self, readers, also, former: bool, oldest: int):
        self.has_former = former
        self.oldest = oldest
        # A reader is "class", "next", or the list of an upcaster's targets.
        self.readers: dict[Node, Any] = readers
        # A second reader, registered under the former name.
        self.also: dict[Node, Any] = {
            (FORMER, version): reader for version, reader in also.items()
        }
        if former and not any(
            name == "a" and one == "class" for (name, _), one in readers.items()
        ):
            self.has_former = False
        self.classes: dict[Node, type] = {}

    def __repr__(self):
        return f"{self.readers} {self.also} {self.has_former} {self.oldest}"

    def current(self, node: Node) -> Node:
        name, version = node
        return ("a" if name == FORMER and self.has_former else name), version

    def targets(self, node: Node, reader) -> list[Node]:
        if reader == "class":
            return []
        name, version = node
        return [(name, version + 1)] if reader == "next" else reader

    def all_readers(self):
        yield from self.readers.items()
        yield from self.also.items()

    # --- the model

    def is_valid(self) -> bool:
        edges: dict[Node, set[Node]] = {}
        readers: list[Node] = []
        for node, reader in self.all_readers():
            readers.append(self.current(node))
            targets = {self.current(one) for one in self.targets(node, reader)}
            edges.setdefault(self.current(node), set()).update(targets)
        if len(readers) != len(set(readers)):
            return False
        try:
            graphlib.TopologicalSorter(edges).prepare()
        except graphlib.CycleError:
            return False
        expected = {one for found in edges.values() for one in found}
        for name in {name for name, _ in readers}:
            versions = [version for one, version in readers if one == name]
            is_class = any(
                one == "class" and self.current(node)[0] == name
                for node, one in self.readers.items()
            )
            first = min(versions)
            if is_class:
                first = max(
                    min(self.oldest, version)
                    for (one, version), reader in self.readers.items()
                    if one == name and reader == "class"
                )
            expected |= {(name, one) for one in range(first, max(versions) + 1)}
        return expected <= set(readers)

    def read(self, node: Node, path: list[str]) -> list[tuple[Node, list[str]]]:
        """Return the classes to which an event leads, each with its path."""
        current = self.current(node)
        for one, reader in self.all_readers():
            if self.current(one) != current:
                continue
            if reader == "class":
                return [(current, path)]
            name = label(one)
            found = []
            for target in taken(self.targets(one, reader), path, reader):
                found += self.read(target, [*path, name])
                if len(found) > SPLIT_LIMIT:
                    break
            return found
        raise AssertionError(node)

    # --- the registry

    def register(self) -> EventRegistry:
        registry = EventRegistry()
        for node, reader in self.all_readers():
            if reader == "class":
                self._register_class(registry, node)
            else:
                self._register_upcaster(registry, node, reader)
        return registry

    def _register_class(self, registry, node) -> None:
        name, version = node
        kind = type(
            "Made",
            (),
            {"__annotations__": {"path": list[str]}, "__qualname__": "<locals>.Made"},
        )
        former = [FORMER] if self.has_former and name == "a" else []
        self.classes[node] = eb.event(
            name,
            version=version,
            formerly=former,
            oldest_version=min(self.oldest, version),
            registry=registry,
        )(kind)

    def _register_upcaster(self, registry, node, reader) -> None:
        name, version = node
        targets = self.targets(node, reader)

        def pass_on(body):
            return {"path": [*body["path"], label(node)]}

        def spread(body):
            for name, version in taken(targets, body["path"], reader):
                path = [*body["path"], label(node)]
                yield UpcastEvent(name, {"path": path}, version)

        if reader == "next":
            upcaster(name, from_version=version, registry=registry)(pass_on)
        else:
            decorate = upcaster(
                name, from_version=version, into=reader, registry=registry
            )
            decorate(spread)


def label(node: Node) -> str:
    return f"{node[0]}{node[1]}"


def taken(targets: list[Node], path: list[str], reader) -> list[Node]:
    """Choose among the targets of a split, by the body alone."""
    if reader == "next":
        return targets
    return [
        target
        for number, target in enumerate(targets)
        for _ in range((len(path) + number) % 3)
    ]


readers = st.sampled_from(["class", "class", "next", "next", "next"]) | st.lists(
    nodes, max_size=3
)


@st.composite
def any_graphs(draw) -> Graph:
    return Graph(
        draw(
            st.dictionaries(
                st.tuples(st.sampled_from(NAMES), st.sampled_from(VERSIONS)),
                readers,
                min_size=1,
                max_size=8,
            )
        ),
        draw(
            st.dictionaries(
                st.sampled_from(VERSIONS),
                st.just("next") | st.lists(nodes, max_size=2),
                max_size=1,
            )
        ),
        draw(st.booleans()),
        draw(st.sampled_from([1, 1, 2, 4])),
    )


@st.composite
def valid_graphs(draw) -> Graph:
    """Each type has versions up to a class; upcasters lead to what comes later."""
    found: dict[Node, Any] = {}
    later: list[Node] = []
    has_former = draw(st.booleans())
    for name in draw(st.permutations(NAMES)):
        highest = draw(st.sampled_from(VERSIONS))
        found[name, highest] = "class"
        later.append((name, highest))
        if name == "a" and has_former:
            later.append((FORMER, highest))
        for version in range(highest - 1, 0, -1):
            reader = draw(
                st.just("next")
                | st.just("class")
                | st.lists(st.sampled_from(later), max_size=3)
            )
            found[name, version] = reader
            later.append((name, version))
            if name == "a" and has_former:
                later.append((FORMER, version))
    return Graph(found, {}, has_former, draw(st.sampled_from([1, 2])))


def recorded(node: Node) -> eb.RecordedEvent:
    name, version = node
    return eb.RecordedEvent(
        stream="s-1",
        version=1,
        position=1,
        type=name,
        event_id=UUID(int=1),
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        data=b'{"path":[]}',
        metadata={} if version == 1 else {"v": str(version)},
    )


def check_reads(graph: Graph, registry: EventRegistry) -> None:
    decoder = EventDecoder(registry=registry)
    readable = [*graph.readers]
    if graph.has_former:
        readable += [(FORMER, version) for name, version in readable if name == "a"]
    for node in readable:
        expected = graph.read(node, [])
        raw = recorded(node)
        if len(expected) > SPLIT_LIMIT:
            event("too many events")
            with pytest.raises(eb.errors.EventDecodeError):
                decoder.decode(raw)
            continue
        found = decoder.decode(raw)
        assert [(type(one.event), one.event.path) for one in found] == [
            (graph.classes[leaf], path) for leaf, path in expected
        ]
        assert [one.part for one in found] == [*range(1, len(found) + 1)]
        for one in found:
            assert node[0] in event_types(type(one.event), registry=registry)


@given(valid_graphs())
def test_a_valid_graph_is_accepted_and_read_as_its_model(graph):
    assert graph.is_valid()
    registry = graph.register()
    registry.seal()
    check_reads(graph, registry)


@given(any_graphs())
def test_a_registry_accepts_exactly_what_the_model_accepts(graph):
    try:
        registry = graph.register()
    except eb.errors.InvalidEventType:
        # Registered under both names, one of which has a class already.
        assert not graph.is_valid()
        return
    event(f"valid: {graph.is_valid()}")
    if graph.is_valid():
        registry.seal()
        check_reads(graph, registry)
        return
    assert registry.problems()
    with pytest.raises(eb.errors.InvalidEventType):
        registry.validate()


@given(valid_graphs(), st.data())
def test_a_reader_that_is_taken_away_is_missed(graph, data):
    """Unless no log may have its version: one below the oldest, to which none leads."""
    removed = data.draw(st.sampled_from(sorted(graph.readers)))
    del graph.readers[removed]
    if not graph.readers:
        return
    registry = Graph(graph.readers, {}, graph.has_former, graph.oldest).register()
    is_valid = Graph(graph.readers, {}, graph.has_former, graph.oldest).is_valid()
    names = {name for name, _ in registry.problems()}
    assert is_valid == (not names)
    if names:
        assert names & {removed[0], FORMER}


@given(st.integers(1, 60), st.data())
def test_a_long_chain_reads_every_version(length, data):
    registry = EventRegistry()

    @eb.event("long", version=length + 1, registry=registry)
    class Long:
        steps: int

    def add_step(body):
        return {"steps": body["steps"] + 1}

    for version in data.draw(st.permutations(range(1, length + 1))):
        upcaster("long", from_version=version, registry=registry)(add_step)
    registry.seal()
    for version in range(1, length + 2):
        raw = eb.RecordedEvent(
            stream="s-1",
            version=1,
            position=1,
            type="long",
            event_id=UUID(int=1),
            recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
            data=b'{"steps":0}',
            metadata={"v": str(version)},
        )
        assert eb.decode_event(raw, registry=registry) == Long(length + 1 - version)
