"""Rule 12: every limit, each at its bound and beyond it.

How sizes count: metadata is counted as compact JSON in UTF-8, no metadata as nothing;
a commit as the types, metadata and data of all of its events.

The hazard: a size that is only noticed when half of it is written, or a refusal that
does not say which limit it means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import eventbraid as eb
from eventbraid.testing._contract.asking import is_untouched, listed, refusal
from eventbraid.testing._contract.case import ContractCase

if TYPE_CHECKING:
    from eventbraid.testing._contract.backend import StoreUnderTest

    Events = list[eb.NewEvent | tuple[str, str, bytes]]

KIB = 1024
MIB = 1024 * KIB


def _of_size(*sizes: int) -> Events:
    return [("a", "x", bytes(size)) for size in sizes]


def _with_metadata(size: int) -> Events:
    """One event whose metadata is kept as ``{"k":"..."}``."""
    text = "v" * (size - len('{"k":""}'))
    return [eb.NewEvent("a", "x", b"", metadata={"k": text})]


def _over_streams(count: int) -> Events:
    return [(f"s-{number}", "x", b"") for number in range(count)]


class LimitsContract(ContractCase):
    """Rule 12."""

    @pytest.mark.parametrize(
        "events",
        [
            pytest.param([("s", "x", b"")], id="stream of 1 byte"),
            pytest.param([("s" * 255, "x", b"")], id="stream of 255 bytes"),
            pytest.param([("é" * 127, "x", b"")], id="stream of 254 bytes"),
            pytest.param([("a", "t" * 255, b"")], id="type of 255 bytes"),
            pytest.param(_of_size(8 * MIB - 1), id="data below 8 MiB"),
            pytest.param(_of_size(8 * MIB), id="data of 8 MiB"),
            pytest.param(_with_metadata(64 * KIB - 1), id="metadata below 64 KiB"),
            pytest.param(_with_metadata(64 * KIB), id="metadata of 64 KiB"),
            pytest.param(
                _of_size(8 * MIB, 8 * MIB - 2), id="commit of 16 MiB with its types"
            ),
            pytest.param(_over_streams(10_000), id="10,000 streams"),
            pytest.param(_of_size(*[0] * 20_000), id="20,000 events"),
        ],
    )
    async def test_rule_12_what_is_within_the_limits_is_taken(
        self, store: StoreUnderTest, events: Events
    ) -> None:
        """What is at a limit or below it is taken, and comes back whole."""
        await store.append(events)
        found = await listed(store.read_all())
        assert len(found) == len(events)
        for recorded, given in (
            (found[0], events[0]),
            (found[-1], events[-1]),
        ):
            wanted = eb.NewEvent(*given) if isinstance(given, tuple) else given
            assert recorded.stream == wanted.stream
            assert recorded.type == wanted.type
            assert recorded.data == wanted.data
            assert recorded.metadata == wanted.metadata

    @pytest.mark.parametrize(
        ("events", "kind"),
        [
            pytest.param([("", "x", b"")], eb.errors.InvalidStreamId, id="no stream"),
            pytest.param(
                [("s" * 256, "x", b"")],
                eb.errors.InvalidStreamId,
                id="stream of 256 bytes",
            ),
            pytest.param(
                [("é" * 128, "x", b"")],
                eb.errors.InvalidStreamId,
                id="128 two-byte letters",
            ),
            pytest.param(
                [("$", "x", b"")], eb.errors.InvalidStreamId, id="system stream"
            ),
            pytest.param(
                [("$a-1", "x", b"")], eb.errors.InvalidStreamId, id="system id"
            ),
            pytest.param([("a\nb", "x", b"")], eb.errors.InvalidStreamId, id="newline"),
            pytest.param([("a\0", "x", b"")], eb.errors.InvalidStreamId, id="zero"),
            pytest.param([("a\x7f", "x", b"")], eb.errors.InvalidStreamId, id="delete"),
            pytest.param(
                [("a\x85", "x", b"")], eb.errors.InvalidStreamId, id="C1 control"
            ),
            pytest.param(
                [("a\ud800", "x", b"")], eb.errors.InvalidStreamId, id="surrogate"
            ),
            pytest.param([("a", "", b"")], eb.errors.InvalidEventType, id="no type"),
            pytest.param(
                [("a", "t" * 256, b"")],
                eb.errors.InvalidEventType,
                id="type of 256 bytes",
            ),
            pytest.param(
                [("a", "\udfff", b"")],
                eb.errors.InvalidEventType,
                id="surrogate in a type",
            ),
        ],
    )
    async def test_rule_12_names_that_can_not_be_are_refused(
        self,
        store: StoreUnderTest,
        events: Events,
        kind: type[eb.errors.InvalidArgument],
    ) -> None:
        """A name is 1-255 bytes of UTF-8.

        A stream's has no control characters, and does not begin with ``$``.
        """
        good = ("good", "x", b"")
        for batch in (events, [good, *events], [*events, good]):
            error = await refusal(store.append(batch), kind)
            assert isinstance(error, ValueError)
            assert error.reason
        assert await is_untouched(store)

    @pytest.mark.parametrize(
        ("events", "limit"),
        [
            pytest.param(_of_size(8 * MIB + 1), 8 * MIB, id="data"),
            pytest.param(_with_metadata(64 * KIB + 1), 64 * KIB, id="metadata"),
            pytest.param(_of_size(8 * MIB, 8 * MIB - 1), 16 * MIB, id="commit"),
            pytest.param(_over_streams(10_001), 10_000, id="streams"),
        ],
    )
    async def test_rule_12_what_is_beyond_a_limit_is_refused(
        self, store: StoreUnderTest, events: Events, limit: int
    ) -> None:
        """One more than a limit is `LimitExceeded`, which says what the limit is."""
        error = await refusal(store.append(events), eb.errors.LimitExceeded)
        assert (error.actual, error.limit) == (limit + 1, limit)
        assert f"{limit:,}" in str(error)
        await refusal(
            store.append([("good", "x", b""), *events]), eb.errors.LimitExceeded
        )
        assert await is_untouched(store)

    async def test_rule_12_ten_thousand_expectations_are_judged(
        self, store: StoreUnderTest
    ) -> None:
        """A commit takes 10,000 expectations, and refuses one more."""
        expect: dict[str, eb.store.Expectation] = {f"s-{n}": 0 for n in range(10_000)}
        await store.append([("a", "x", b"")], expect=expect)
        more = {**expect, "one more": 0}
        late = store.append([("a", "x", b"")], expect=more)
        error = await refusal(late, eb.errors.LimitExceeded)
        assert (error.actual, error.limit) == (10_001, 10_000)
        assert await is_untouched(store, head=1)

    @pytest.mark.parametrize(
        ("expect", "kind"),
        [
            ({"": 0}, eb.errors.InvalidStreamId),
            ({"s" * 256: 0}, eb.errors.InvalidStreamId),
            ({"a\n": eb.ANY}, eb.errors.InvalidStreamId),
            ({"a\ud800": 0}, eb.errors.InvalidStreamId),
            ({"a": -1}, eb.errors.InvalidArgument),
            ({"a": 2**64}, eb.errors.InvalidArgument),
        ],
        ids=ascii,
    )
    async def test_rule_12_expectations_that_make_no_sense_are_refused(
        self,
        store: StoreUnderTest,
        expect: dict[str, Any],
        kind: type[eb.errors.InvalidArgument],
    ) -> None:
        """A checked stream's id obeys the same limits; a version is 0 or more."""
        await refusal(store.append([("a", "x", b"")], expect=expect), kind)
        assert await is_untouched(store)

    @pytest.mark.parametrize("size", [1, 254, 255])
    async def test_rule_12_keys_of_up_to_255_bytes_are_taken(
        self, store: StoreUnderTest, size: int
    ) -> None:
        """A key is 1-255 bytes of UTF-8, and any character may stand in it."""
        key = "\n" + "k" * (size - 1)
        await store.append([("a", "x", b"")], idempotency_key=key)
        assert (await store.append([("a", "x", b"")], idempotency_key=key)).replayed

    @pytest.mark.parametrize("key", ["", "k" * 256, "é" * 128, "k\ud800"], ids=ascii)
    async def test_rule_12_keys_that_make_no_sense_are_refused(
        self, store: StoreUnderTest, key: str
    ) -> None:
        """A key that is empty, too long or no UTF-8 is refused, also when looked up."""
        keyed = store.append([("a", "x", b"")], idempotency_key=key)
        await refusal(keyed, eb.errors.InvalidArgument)
        await refusal(store.committed(key), eb.errors.InvalidArgument)
        assert await is_untouched(store)

    @pytest.mark.parametrize(
        "events",
        [[("a", "x")], [("a", "x", "text")], [(1, "x", b"")], ["abc"], [None], "text"],
        ids=ascii,
    )
    async def test_rule_12_what_is_no_event_is_refused(
        self, store: StoreUnderTest, events: Any
    ) -> None:
        """What is no event is `TypeError`, and nothing before it is written."""
        await refusal(store.append(events), TypeError)
        if not isinstance(events, str):
            await refusal(store.append([("a", "x", b""), *events]), TypeError)
        assert await is_untouched(store)
