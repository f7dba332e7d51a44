"""A registry finds what makes an old event unreadable before a store is used."""

from __future__ import annotations

import sys
import types

import pytest

import eventbraid as eb
from eventbraid.event import EventDecoder, EventRegistry, UpcastEvent, upcaster


@pytest.fixture
def registry() -> EventRegistry:
    return EventRegistry()


def define(registry, name, version=1, **options):
    kind = type("Made", (), {"__annotations__": {}, "__qualname__": "<locals>.Made"})
    return eb.event(name, version=version, registry=registry, **options)(kind)


def lead(registry, name, version, into=None):
    options = {} if into is None else {"into": into}
    return upcaster(name, from_version=version, registry=registry, **options)(
        lambda body: body
    )


def refusals(registry) -> list[tuple[str, str]]:
    problems = registry.problems()
    if problems:
        with pytest.raises(eb.errors.InvalidEventType) as refused:
            registry.validate()
        assert refused.value.value == problems[0][0]
        with pytest.raises(eb.errors.InvalidEventType):
            registry.seal()
        with pytest.raises(eb.errors.InvalidEventType):
            eb.open("memory:", registry=registry)
        with pytest.raises(eb.errors.InvalidEventType):
            eb.open_async("memory:", registry=registry)
        assert not registry.is_sealed
    else:
        registry.seal()
        eb.open("memory:", registry=registry).close()
    return problems


# --- gaps


def test_a_version_without_a_reader_is_found(registry):
    define(registry, "sold", 2)
    [(name, reason)] = refusals(registry)
    assert name == "sold"
    assert reason.startswith("version 1 can't be read")
    assert "@upcaster('sold', from_version=1)" in reason
    assert "oldest_version=2" in reason


def test_the_oldest_version_can_be_declared(registry):
    define(registry, "sold", 2, oldest_version=2)
    assert refusals(registry) == []


def test_a_gap_in_a_chain_names_the_upcaster_that_leads_into_it(registry):
    define(registry, "sold", 4)
    for version in (1, 3):
        lead(registry, "sold", version)
    [(name, reason)] = refusals(registry)
    assert (name, reason.partition(" ")[2][:4]) == ("sold", "2 ca")
    assert "test_event_registry" in reason
    assert "from_version=2" in reason


def test_a_gap_of_many_versions_is_one_problem(registry):
    define(registry, "sold", 999_999_999)
    [(_, reason)] = refusals(registry)
    assert reason.startswith("versions 1 to 999999998 can't be read")


def test_an_upcaster_beyond_the_newest_version_leads_nowhere(registry):
    define(registry, "sold")
    lead(registry, "sold", 2)
    [(_, reason)] = refusals(registry)
    assert "version 3 can't be read" in reason


def test_a_split_into_an_unknown_type_is_found(registry):
    lead(registry, "old", 1, into=["new", ("newer", 2)])
    assert [name for name, _ in refusals(registry)] == ["new", "newer"]
    define(registry, "new")
    define(registry, "newer", 2)
    [(name, _)] = refusals(registry)
    assert name == "newer"
    lead(registry, "newer", 1)
    assert refusals(registry) == []


def test_a_dropped_type_needs_no_class(registry):
    lead(registry, "viewed", 2, into=[])
    lead(registry, "viewed", 1)
    assert refusals(registry) == []


def test_classes_of_several_versions_need_no_upcasters(registry):
    for version in (1, 2, 3):
        define(registry, "sold", version)
    assert refusals(registry) == []


def test_a_former_name_is_the_same_type(registry):
    define(registry, "ordered", 3, formerly=["bought"])
    lead(registry, "bought", 1)
    lead(registry, "ordered", 2)
    assert refusals(registry) == []


# --- cycles


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_cycle_is_found(registry, length):
    for number in range(length):
        lead(registry, f"a{number}", 1, into=[f"a{(number + 1) % length}"])
    [(_, reason)] = refusals(registry)
    assert "form a cycle: 'a0' version 1 -> " in reason
    assert reason.count("->") == length


def test_a_cycle_through_a_former_name_is_found(registry):
    define(registry, "ordered", 2, formerly="bought")
    lead(registry, "ordered", 1, into=["bought"])
    [(_, reason)] = refusals(registry)
    assert "cycle" in reason


def test_two_ways_to_one_version_are_no_cycle(registry):
    define(registry, "end")
    lead(registry, "start", 1, into=["left", "right"])
    lead(registry, "left", 1, into=["end"])
    lead(registry, "right", 1, into=["left", "end"])
    assert refusals(registry) == []


def test_a_long_chain_is_validated_without_recursion(registry):
    define(registry, "sold", 3_001)
    for version in range(1, 3_001):
        lead(registry, "sold", version)
    assert refusals(registry) == []


# --- doubles


def test_two_upcasters_of_one_version_are_refused(registry):
    lead(registry, "sold", 1)
    with pytest.raises(eb.errors.InvalidEventType, match="already upcasts version 1"):
        lead(registry, "sold", 1)


def test_a_class_and_an_upcaster_of_one_version_are_refused(registry):
    define(registry, "sold")
    with pytest.raises(eb.errors.InvalidEventType, match="increase the version"):
        lead(registry, "sold", 1)
    lead(registry, "bought", 1)
    with pytest.raises(eb.errors.InvalidEventType, match="increase the version"):
        define(registry, "bought")


def test_doubles_under_two_names_are_found(registry):
    define(registry, "ordered", 2, formerly="bought")
    lead(registry, "ordered", 1)
    lead(registry, "bought", 1)
    [(name, reason)] = refusals(registry)
    assert name == "ordered"
    assert "version 1 has several readers" in reason


# --- former names


def test_an_ambiguous_former_name_is_refused(registry):
    define(registry, "bought")
    define(registry, "ordered", formerly="acquired")
    for name, formerly, reason in (
        ("sold", ["bought"], "a class is registered under it"),
        ("sold", ["acquired"], "former name of 'ordered' already"),
        ("sold", ["sold"], "own name"),
        ("acquired", [], "is a former name of 'ordered'"),
    ):
        with pytest.raises(eb.errors.InvalidEventType, match=reason):
            define(registry, name, formerly=formerly)


@pytest.mark.parametrize("formerly", [5, [5], [""], "a\nb", None])
def test_an_invalid_former_name_is_refused(registry, formerly):
    with pytest.raises(eb.errors.InvalidEventType):
        define(registry, "sold", formerly=formerly)


@pytest.mark.parametrize("oldest", [0, 3, "1", True, None])
def test_an_invalid_oldest_version_is_refused(registry, oldest):
    with pytest.raises(eb.errors.InvalidEventType, match="version"):
        define(registry, "sold", 2, oldest_version=oldest)


# --- arguments of an upcaster


@pytest.mark.parametrize(
    "options",
    [
        {"from_version": 0},
        {"from_version": "1"},
        {"from_version": 999_999_999},
        {"from_version": 1, "into": "sold"},
        {"from_version": 1, "into": [5]},
        {"from_version": 1, "into": [("sold",)]},
        {"from_version": 1, "into": [("sold", 0)]},
        {"from_version": 1, "into": [("sold", 1, 2)]},
    ],
)
def test_an_invalid_upcaster_is_refused(registry, options):
    with pytest.raises(eb.errors.InvalidEventType):
        upcaster("old", registry=registry, **options)


@pytest.mark.parametrize(
    "function",
    [lambda: 1, lambda a, b, c: {}, lambda *, body: {}, 5],
    ids=["0", "3", "key", "no"],
)
def test_an_upcaster_has_one_or_two_parameters(registry, function):
    with pytest.raises(TypeError, match="upcaster"):
        upcaster("old", from_version=1, registry=registry)(function)


async def asynchronous(body):
    return body


async def asynchronous_generator(body):
    yield body


def generator(body):
    yield body


@pytest.mark.parametrize(
    ("function", "options", "reason"),
    [
        (asynchronous, {}, "is asynchronous"),
        (asynchronous, {"into": ["new"]}, "is asynchronous"),
        (asynchronous_generator, {"into": ["new"]}, "is asynchronous"),
        (generator, {}, "with into="),
    ],
    ids=["async", "async split", "async generator", "generator"],
)
def test_a_function_with_another_result_is_refused(registry, function, options, reason):
    with pytest.raises(TypeError, match=reason):
        upcaster("old", from_version=1, registry=registry, **options)(function)


def test_an_upcaster_stays_a_plain_function(registry):
    @upcaster("old", from_version=1, into=["new"], registry=registry)
    def rename(body):
        yield UpcastEvent("new", body)

    assert [*rename({"a": 1})] == [UpcastEvent("new", {"a": 1})]


# --- scopes


def test_registries_are_independent():
    one, other = EventRegistry(), EventRegistry()

    @eb.event("sold", registry=one)
    class Sold:
        number: int

    @eb.register_event("sold", registry=other)
    @eb.event("bought", registry=one)
    class Bought:
        number: int

    assert eb.event_type(Bought, registry=one) == "bought"
    assert eb.event_type(Bought, registry=other) == "sold"
    with eb.open("memory:") as store:
        store.append([eb.new_event("a-1", Sold(1), registry=one)])
        [raw] = store.read_stream("a-1")
    assert eb.decode_event(raw, registry=one) == Sold(1)
    assert eb.decode_event(raw, registry=other) == Bought(1)
    with pytest.raises(eb.errors.UnknownEventType):
        eb.decode_event(raw)
    with pytest.raises(eb.errors.InvalidArgument, match="not registered"):
        eb.new_event("a-1", Sold(1), registry=other)


def test_a_class_of_the_default_registry_isnt_one_of_another(registry):
    @eb.event("test_event_registry.default")
    class Default: ...

    with pytest.raises(eb.errors.InvalidArgument, match="in the default registry"):
        eb.encode_event(Default(), registry=registry)


def test_every_registry_reads_the_events_of_the_library(registry):
    with eb.open("memory:", registry=registry) as store:
        with eb.Lease(store, "import"):
            pass
        [raw, *_] = store.read_all(prefix="$lease", system=True)
    event = eb.decode_event(raw, registry=registry)
    assert event == eb.decode_event(raw)
    assert eb.encode_event(event, registry=registry)[0] == raw.type
    assert [*registry.types()] == []


def test_a_sealed_registry_refuses_further_events(registry):
    define(registry, "sold")
    registry.seal()
    for late in (
        lambda: define(registry, "bought"),
        lambda: lead(registry, "bought", 1),
    ):
        with pytest.raises(eb.errors.InvalidEventType, match="sealed"):
            late()
    registry.seal()


def test_a_store_and_its_executors_use_the_registry_of_the_store(registry):
    with eb.open("memory:", registry=registry) as store:
        assert store.registry is registry
        assert store.as_async().registry is registry
        assert eb.Executor(store).registry is registry
        other = EventRegistry()
        assert eb.Executor(store, registry=other).registry is other
    with eb.open("memory:") as store:
        assert eb.Executor(store).registry is store.registry


@pytest.mark.parametrize("wrong", [5, "shop", EventRegistry])
def test_something_else_than_a_registry_is_refused(wrong):
    with pytest.raises(TypeError):
        eb.open("memory:", registry=wrong)


@pytest.mark.parametrize(
    "wrong", [5, "shop", EventRegistry], ids=["5", "text", "class"]
)
def test_each_function_refuses_something_else_than_a_registry(wrong):
    class Sold: ...

    with eb.open("memory:") as store:
        for use in (
            lambda: eb.event("sold", registry=wrong)(Sold),
            lambda: upcaster("sold", from_version=1, registry=wrong)(lambda body: body),
            lambda: EventDecoder(registry=wrong),
            lambda: eb.Executor(store, registry=wrong),
        ):
            with pytest.raises(TypeError, match="registry must be an EventRegistry"):
                use()


def test_a_registry_is_shown_with_its_number_of_event_types(registry):
    define(registry, "sold")
    assert repr(registry) == "<EventRegistry: event types 1>"
    registry.seal()
    assert repr(registry) == "<EventRegistry: event types 1, sealed>"


def test_a_class_defined_again_after_a_codec_was_set_replaces_the_old_one(
    registry, monkeypatch
):
    notebook = types.ModuleType("notebook_of_codecs")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    vars(notebook).update(eb=eb, registry=registry)
    cell = "@eb.event('kept', version={0}, registry=registry)\nclass Kept: ...\n"
    exec(cell.format(1), vars(notebook))
    registry.use_codec(None)
    exec(cell.format(2), vars(notebook))
    lead(registry, "kept", 1)
    assert refusals(registry) == []
