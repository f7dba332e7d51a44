"""Bad input of every kind, given to both faces of the engine: refused, nothing written.

What every backend must refuse is rule 12 of the contract suite. This is about what only
Python can get wrong: types, mappings that raise, objects that change under the hand.

The hazard: a half-converted append, a refusal that leaves a key behind, and an error
that does not say which of a thousand events it means.
"""

from __future__ import annotations

import datetime as dt
import uuid

import pytest

import eventbraid as eb
from tests.contract.asking import is_untouched, listed, refusal
from tests.contract.backends import backends

# Each face once, each kind of place once: what is refused has reached neither.
ENGINES = ("disk-sync", "memory-async")

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("backend", ENGINES)]

MIB = 1024 * 1024


@pytest.fixture
def anyio_backend():
    """What is refused is refused before any loop has a part in it."""
    return "asyncio"


@pytest.fixture
async def store(backend, tmp_path, anyio_backend):
    async with backends(tmp_path)[backend].open() as opened:
        yield opened


async def refuses(store, kind, events, **options):
    """The error of an append that leaves no event and no key behind."""
    options.setdefault("idempotency_key", "k")
    error = await refusal(store.append(events, **options), kind)
    assert await is_untouched(store)
    assert await store.committed("k") is None
    return error


@pytest.mark.parametrize(
    ("events", "named"),
    [
        ([("", "x", b"")], "stream"),
        ([("s" * 256, "x", b"")], "255"),
        ([("a\nb", "x", b"")], "control"),
        ([("a\ud800", "x", b"")], "surrogate"),
        ([("a", "", b"")], "event type"),
        ([("a", "t" * 256, b"")], "255"),
        ([("a", "\udfff", b"")], "surrogate"),
        ([("a", "x", bytes(8 * MIB + 1))], "8,388,608"),
        ([("a", "x", bytes(6 * MIB))] * 3, "16,777,216"),
        ([(f"s-{n}", "x", b"") for n in range(10_001)], "10,000"),
        ([eb.NewEvent("a", "x", b"", metadata={"k": "v" * 65536})], "65,536"),
    ],
    ids=range(11),
)
async def test_a_refusal_says_what_is_wrong_wherever_it_stands(store, events, named):
    good = ("good", "x", b"")
    for batch in (events, [good, *events], [*events, good], iter(events)):
        assert named in str(await refuses(store, eb.errors.InvalidArgument, batch))


@pytest.mark.parametrize(
    "events",
    [
        None,
        1,
        "text",
        b"bytes",
        object(),
        [None],
        [{}],
        ["abc"],
        [b"abc"],
        [("a", "x")],
        [("a", "x", b"", b"")],
        [["a", "x", b""]],
        [(1, "x", b"")],
        [(None, "x", b"")],
        [(b"a", "x", b"")],
        [("a", 1, b"")],
        [("a", "x", "text")],
        [("a", "x", None)],
        [("a", "x", 5)],
        [("a", "x", [1, 2])],
        [("a", "x", b""), object()],
        [("a", "x", b""), eb.Appended(None, None, {}, replayed=False)],
    ],
    ids=ascii,
)
async def test_what_is_no_event_is_refused(store, events):
    await refuses(store, TypeError, events)


@pytest.mark.parametrize(
    "arguments",
    [
        (1, "x", b""),
        ("a", None, b""),
        ("a", "x", "text"),
        ("a", "x"),
        ("a", "x", b"", {}),
    ],
    ids=ascii,
)
async def test_an_event_of_wrong_types_is_not_made(store, arguments):
    with pytest.raises(TypeError):
        eb.NewEvent(*arguments)


@pytest.mark.parametrize(
    "facts",
    [
        {"metadata": "k"},
        {"metadata": [("k", "v")]},
        {"metadata": {1: "v"}},
        {"metadata": {"k": 1}},
        {"metadata": {"k": None}},
        {"event_id": "not a UUID"},
        {"event_id": 7},
        {"event_id": bytes(16)},
        {"correlation": "x"},
    ],
    ids=ascii,
)
async def test_facts_of_wrong_types_make_no_event(store, facts):
    with pytest.raises(TypeError):
        eb.NewEvent("a", "x", b"", **facts)


async def test_metadata_that_has_no_utf8_makes_no_event(store):
    for metadata in ({"k\ud800": "v"}, {"k": "v\ud800"}):
        with pytest.raises(eb.errors.InvalidArgument, match="metadata"):
            eb.NewEvent("a", "x", b"", metadata=metadata)


async def test_data_that_changes_later_is_kept_as_it_was(store):
    data, metadata = bytearray(b"one"), {"k": "v"}
    event = eb.NewEvent("a", "x", data, metadata=metadata)
    data[:], metadata["k"] = b"two", "w"
    await store.append([event, ("a", "x", memoryview(b"__view__")[2:6:1])])
    one, two = await listed(store.read_all())
    assert (one.data, dict(one.metadata), two.data) == (b"one", {"k": "v"}, b"view")


@pytest.mark.parametrize(
    ("expect", "kind"),
    [
        ({"": 0}, eb.errors.InvalidStreamId),
        ({"a": -1}, eb.errors.InvalidArgument),
        ({"a": 2**64}, eb.errors.InvalidArgument),
        ({"a": -(2**80)}, eb.errors.InvalidArgument),
        ({f"s-{n}": 0 for n in range(10_001)}, eb.errors.LimitExceeded),
        ({"a": True}, TypeError),
        ({"a": 1.0}, TypeError),
        ({"a": "any"}, TypeError),
        ({"a": None}, TypeError),
        ({1: 0}, TypeError),
        ({None: 0}, TypeError),
        ([("a", 0)], TypeError),
        ({"a"}, TypeError),
        ("a", TypeError),
        (7, TypeError),
    ],
    ids=range(15),
)
async def test_expectations_that_make_no_sense_are_refused(store, expect, kind):
    await refuses(store, kind, [("a", "x", b"")], expect=expect)
    await refuses(store, kind, [], expect=expect)


async def test_the_largest_number_is_a_version_that_nobody_has(store):
    error = await refuses(store, eb.VersionConflict, [], expect={"a": 2**64 - 1})
    assert error.failures[0].expected == 2**64 - 1


@pytest.mark.parametrize("key", [1, b"k", ["k"], object()], ids=ascii)
async def test_keys_of_wrong_types_are_refused(store, key):
    await refuses(store, TypeError, [("a", "x", b"")], idempotency_key=key)
    await refusal(store.committed(key), TypeError)


@pytest.mark.parametrize("content", ["text", 1, [1], object()], ids=ascii)
async def test_contents_of_wrong_types_are_refused(store, content):
    await refuses(store, TypeError, [("a", "x", b"")], content=content)


async def test_an_error_of_the_callers_own_code_comes_through(store):
    class Mine(Exception):
        pass

    class Mapping(dict):
        def items(self):
            raise Mine

    def events():
        yield ("a", "x", b"")
        raise Mine

    await refuses(store, Mine, events())
    with pytest.raises(Mine):
        eb.NewEvent("a", "x", b"", metadata=Mapping())


async def test_an_iterable_that_uses_the_store_meanwhile_is_no_trap(store):
    def events():
        yield ("a", "x", b"")
        yield ("a", "x", str(len(seen)).encode())

    seen = await listed(store.read_all())
    assert (await store.append(events())).versions["a"] == 2


@pytest.mark.parametrize(
    ("bounds", "kind"),
    [
        ({"after": -1}, eb.errors.InvalidArgument),
        ({"before": -1}, eb.errors.InvalidArgument),
        ({"limit": -1}, eb.errors.InvalidArgument),
        ({"after": 2**64}, eb.errors.InvalidArgument),
        ({"before": 2**63}, eb.errors.InvalidArgument),
        ({"limit": 2**63}, eb.errors.InvalidArgument),
        ({"after": True}, TypeError),
        ({"after": None}, TypeError),
        ({"after": "1"}, TypeError),
        ({"before": 1.0}, TypeError),
        ({"limit": "all"}, TypeError),
    ],
    ids=ascii,
)
async def test_bounds_that_make_no_sense_are_refused_at_once(store, bounds, kind):
    [name] = bounds
    with pytest.raises(kind, match=name):
        store.read_stream("a", **bounds)
    with pytest.raises(kind, match=name):
        store.read_all(**bounds)
    if name == "after":
        with pytest.raises(kind, match=name):
            store.subscribe(**bounds)


@pytest.mark.parametrize(
    "filters",
    [{"prefix": 1}, {"prefix": b"a"}, {"category": 1}, {"types": [1]}, {"types": 5}],
    ids=ascii,
)
async def test_filters_of_wrong_types_are_refused(store, filters):
    async def read():
        return await listed(store.read_all(**filters))

    await refusal(read(), TypeError)


@pytest.mark.parametrize(
    "filters",
    [{"prefix": "a\ud800"}, {"category": "\ud800"}, {"types": ["x", "\udfff"]}],
    ids=ascii,
)
async def test_filters_that_have_no_utf8_are_refused(store, filters):
    for read in (store.read_all, store.subscribe):
        with pytest.raises(eb.errors.InvalidArgument, match="surrogate"):
            read(**filters)


async def test_a_lone_surrogate_is_shown_in_one_way(store):
    uses = (
        lambda: store.append([("a\ud800", "x", b"")]),
        lambda: store.append([("a", "x", b"")], expect={"a\ud800": 0}),
        lambda: store.read_stream("a\ud800"),
        lambda: store.read_all(stream="a\ud800"),
        lambda: store.subscribe(stream="a\ud800"),
    )
    for use in uses:
        with pytest.raises(
            eb.errors.InvalidStreamId, match=r"^invalid stream 'a\\ud800': "
        ):
            await use()
    with pytest.raises(
        eb.errors.InvalidEventType, match=r"^invalid event type 'x\\ud800': "
    ):
        store.read_all(types=["x\ud800"])


async def test_one_type_is_not_several(store):
    for read in (store.read_all, store.subscribe):
        with pytest.raises(eb.errors.InvalidArgument, match="types"):
            read(types="opened")


@pytest.mark.parametrize("streams", ["abc", 5, None, [1], [b"a"], [None]], ids=ascii)
async def test_what_names_no_streams_is_refused(store, streams):
    await refusal(store.read_streams(streams), TypeError)


@pytest.mark.parametrize("stream", [1, b"a", None, ["a"]], ids=ascii)
async def test_what_names_no_stream_is_refused(store, stream):
    await refusal(store.version(stream), TypeError)

    async def read():
        return await listed(store.read_stream(stream))

    await refusal(read(), TypeError)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"at": -1}, eb.errors.InvalidArgument),
        ({"at": 2**64}, eb.errors.InvalidArgument),
        ({"at": "1"}, TypeError),
        ({"at": True}, TypeError),
        ({"after": {"a": -1}}, eb.errors.InvalidArgument),
        ({"after": {"a": "1"}}, TypeError),
        ({"after": 5}, TypeError),
    ],
    ids=ascii,
)
async def test_a_snapshot_of_no_possible_place_is_refused(store, options, kind):
    with pytest.raises(kind):
        await store.read_streams(["a"], **options)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": -1},
        {"position": -1},
        {"recorded_at": dt.datetime(2026, 1, 1)},  # noqa: DTZ001
        {"event_id": "x"},
        {"data": "x"},
    ],
    ids=ascii,
)
async def test_a_recorded_event_of_impossible_facts_is_not_made(store, changes):
    facts = {
        "stream": "a",
        "version": 1,
        "position": 1,
        "type": "x",
        "event_id": uuid.UUID(int=0),
        "recorded_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "data": b"",
    }
    assert eb.RecordedEvent(**facts).version == 1
    with pytest.raises((TypeError, ValueError, OverflowError)):
        eb.RecordedEvent(**(facts | changes))
