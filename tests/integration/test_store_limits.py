"""The contract of semantics.md, rule 12: every limit, and every other bad input.

The hazard: a size that is only noticed when half of it is written, or a refusal that
does not say which of a thousand events it means.
"""

from __future__ import annotations

import pytest

import eventbraid as eb
from tests.contract.asking import is_untouched, listed, refusal
from tests.contract.backends import NAMES, backends

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("backend", NAMES)]

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
async def store(backend, tmp_path, anyio_backend):
    async with backends(tmp_path)[backend].open() as opened:
        yield opened


def of_size(event_bytes):
    return [("a", "x", bytes(event_bytes))]


def with_metadata(size):
    # The metadata is kept as a JSON object of one key: {"k":"..."}
    return [eb.NewEvent("a", "x", b"", metadata={"k": "v" * (size - len('{"k":""}'))})]


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([("s" * 255, "x", b"")], id="stream of 255 bytes"),
        pytest.param([("é" * 127, "x", b"")], id="stream of 254 bytes"),
        pytest.param([("a", "t" * 255, b"")], id="type of 255 bytes"),
        pytest.param(of_size(8 * MIB), id="data of 8 MiB"),
        pytest.param(with_metadata(64 * KIB), id="metadata of 64 KiB"),
        pytest.param([("a", "x", bytes(7 * MIB))] * 2, id="commit of 14 MiB"),
        pytest.param(
            [(f"s-{n}", "x", b"") for n in range(10_000)], id="10,000 streams"
        ),
        pytest.param([("a", "x", b"")] * 20_000, id="20,000 events"),
    ],
)
async def test_rule_12_what_is_within_the_limits_is_taken(store, events):
    done = await store.append(events)
    assert done.last_position == len(events)
    [first] = await listed(store.read_all(limit=1))
    given = events[0]
    wanted = eb.NewEvent(*given) if isinstance(given, tuple) else given
    assert (first.stream, first.type, first.data) == (
        wanted.stream,
        wanted.type,
        wanted.data,
    )
    assert first.metadata == wanted.metadata


@pytest.mark.parametrize(
    ("events", "kind", "named"),
    [
        pytest.param([("", "x", b"")], eb.InvalidStreamId, "stream", id="no stream"),
        pytest.param(
            [("s" * 256, "x", b"")], eb.InvalidStreamId, "255", id="long stream"
        ),
        pytest.param(
            [("é" * 128, "x", b"")], eb.InvalidStreamId, "255", id="256 bytes"
        ),
        pytest.param([("a\nb", "x", b"")], eb.InvalidStreamId, "control", id="newline"),
        pytest.param([("a\0", "x", b"")], eb.InvalidStreamId, "control", id="zero"),
        pytest.param([("a\x85", "x", b"")], eb.InvalidStreamId, "control", id="C1"),
        pytest.param(
            [("a\ud800", "x", b"")], eb.InvalidStreamId, "surrogate", id="surrogate"
        ),
        pytest.param([("a", "", b"")], eb.InvalidEventType, "event type", id="no type"),
        pytest.param(
            [("a", "t" * 256, b"")], eb.InvalidEventType, "255", id="long type"
        ),
        pytest.param(
            [("a", "\udfff", b"")], eb.InvalidEventType, "surrogate", id="type"
        ),
        pytest.param(of_size(8 * MIB + 1), eb.LimitExceeded, "8388608", id="data"),
        pytest.param(
            with_metadata(64 * KIB + 1), eb.LimitExceeded, "65536", id="metadata"
        ),
        pytest.param(
            [("a", "x", bytes(6 * MIB))] * 3, eb.LimitExceeded, "16777216", id="commit"
        ),
        pytest.param(
            [(f"s-{n}", "x", b"") for n in range(10_001)],
            eb.LimitExceeded,
            "10000",
            id="streams",
        ),
    ],
)
async def test_rule_12_what_is_beyond_a_limit_is_refused(store, events, kind, named):
    good = ("good", "x", b"")
    for batch in (events, [good, *events], [*events, good]):
        error = await refusal(store.append(batch), kind)
        assert named in str(error)
        assert isinstance(error, eb.InvalidArgument)
    assert await is_untouched(store)


@pytest.mark.parametrize(
    ("expect", "kind"),
    [
        ({"": 0}, eb.InvalidStreamId),
        ({"s" * 256: 0}, eb.InvalidStreamId),
        ({"a\n": 0}, eb.InvalidStreamId),
        ({"a": -1}, eb.InvalidArgument),
        ({"a": 2**64}, eb.InvalidArgument),
        ({f"s-{n}": 0 for n in range(10_001)}, eb.LimitExceeded),
        ({"a": True}, TypeError),
        ({"a": "any"}, TypeError),
        ({"a": None}, TypeError),
        ({1: 0}, TypeError),
        ([("a", 0)], TypeError),
        ("a", TypeError),
    ],
)
async def test_rule_12_expectations_that_make_no_sense_are_refused(store, expect, kind):
    await refusal(store.append([("a", "x", b"")], expect=expect), kind)
    assert await is_untouched(store)


@pytest.mark.parametrize("key", ["", "k" * 256, "é" * 128, "k\ud800"])
async def test_rule_12_keys_that_make_no_sense_are_refused(store, key):
    error = await refusal(
        store.append([("a", "x", b"")], idempotency_key=key), eb.InvalidArgument
    )
    assert "idempotency key" in str(error)
    await refusal(store.committed(key), eb.InvalidArgument)
    assert await is_untouched(store)


@pytest.mark.parametrize(
    "events",
    [
        None,
        1,
        "text",
        b"bytes",
        [None],
        ["abc"],
        [("a", "x")],
        [("a", "x", b"", b"")],
        [["a", "x", b""]],
        [(1, "x", b"")],
        [("a", 1, b"")],
        [("a", "x", "text")],
        [("a", "x", None)],
        [("a", "x", b""), object()],
    ],
)
async def test_rule_12_what_is_no_event_is_refused(store, events):
    await refusal(store.append(events), TypeError)
    assert await is_untouched(store)


async def test_rule_12_an_error_of_the_callers_iterable_comes_through(store):
    def broken():
        yield ("a", "x", b"")
        message = "mine"
        raise LookupError(message)

    assert str(await refusal(store.append(broken()), LookupError)) == "mine"
    assert await is_untouched(store)


@pytest.mark.parametrize(
    "bounds",
    [{"after": -1}, {"before": -1}, {"limit": -1}, {"after": 2**64}, {"limit": 2**63}],
)
async def test_bounds_that_make_no_sense_are_refused_at_once(store, bounds):
    with pytest.raises(eb.InvalidArgument, match=next(iter(bounds))):
        store.read_stream("a", **bounds)
    with pytest.raises(eb.InvalidArgument, match=next(iter(bounds))):
        store.read_all(**bounds)
    if "after" in bounds:
        with pytest.raises(eb.InvalidArgument, match="after"):
            store.subscribe(**bounds)


@pytest.mark.parametrize("stream", ["", "s" * 256, "a\n", "a\ud800"])
async def test_streams_that_make_no_sense_are_refused(store, stream):
    for read in (store.version(stream), store.read_streams([stream])):
        await refusal(read, eb.InvalidStreamId)
    with pytest.raises(eb.InvalidStreamId):
        async for _ in store.read_stream(stream):
            pass


async def test_one_string_is_not_several_streams(store):
    await refusal(store.read_streams("abc"), TypeError)
