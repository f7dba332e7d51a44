"""A store that is only looked at, through both faces.

The hazard: a look that changes what is investigated, hides that there is more, or leaves
a subscriber hanging.
"""

from __future__ import annotations

import threading

import anyio
import pytest

import eventbraid as eb


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "shop.braid"
    with eb.open(path) as store:
        store.append([("a", "x", b"one"), ("b", "x", b"two")], idempotency_key="k")
    return path


def test_a_look_shows_the_log_and_refuses_appends(path):
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    with eb.open(path, read_only=True) as store:
        assert [event.data for event in store.read_all()] == [b"one", b"two"]
        assert store.stats().unproven == 0
        with pytest.raises(eb.errors.StoreUnavailable, match="read_only") as refused:
            store.append([("a", "x", b"three")])
        assert refused.value.path == str(path)
        assert store.head() == 2
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


@pytest.mark.anyio
async def test_an_async_look_shows_the_log_and_refuses_appends(path):
    async with eb.open_async(path, read_only=True) as store:
        assert [event.data async for event in store.read_all()] == [b"one", b"two"]
        with pytest.raises(eb.errors.StoreUnavailable, match="read_only"):
            await store.append([("a", "x", b"three")])
        verified = await store.verify(quick=True)
        assert (verified.depth, verified.events) == ("quick", 2)


def test_a_subscription_to_a_look_ends_with_it(path):
    store = eb.open(path, read_only=True)
    seen, caught_up = [], threading.Event()

    def follow():
        with store.subscribe() as events:
            for event in events:
                seen.append(event.data)
                if len(seen) == 2:
                    caught_up.set()

    thread = threading.Thread(target=_until_closed, args=(follow,))
    thread.start()
    assert caught_up.wait(60)
    assert thread.is_alive()
    store.close()
    thread.join(60)
    assert not thread.is_alive()
    assert seen == [b"one", b"two"]


def _until_closed(follow):
    try:
        follow()
    except eb.errors.StoreClosed:
        return


@pytest.mark.anyio
async def test_an_async_subscription_to_a_look_ends_with_it(path):
    store = await eb.open_async(path, read_only=True)
    seen, caught_up = [], anyio.Event()

    async def follow():
        try:
            async with store.subscribe() as events:
                async for event in events:
                    seen.append(event.data)
                    if len(seen) == 2:
                        caught_up.set()
        except eb.errors.StoreClosed:
            return

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await caught_up.wait()
            await store.close()
    assert seen == [b"one", b"two"]


def test_no_store_is_made_by_a_look(tmp_path):
    with pytest.raises(eb.errors.NotAStore):
        eb.open(tmp_path / "none", read_only=True)
    assert list(tmp_path.iterdir()) == []
    for opening in (eb.open, eb.open_async):
        with pytest.raises(eb.errors.InvalidArgument, match="read_only"):
            opening("memory:", read_only=True)


def test_a_damaged_store_is_shown_as_far_as_the_damage(path):
    segment = path / "log" / "0000000001.hot"
    with eb.open(path) as store:
        store.append([("a", "x", b"damaged")])
    content = segment.read_bytes()
    segment.write_bytes(content.replace(b"damaged", b"dama9ed"))
    with pytest.raises(
        eb.errors.CorruptStore, match=f"eventbraid verify {path}"
    ) as refused:
        eb.open(path)
    assert refused.value.file == str(segment)
    with eb.open(path, read_only=True) as store:
        assert [event.data for event in store.read_all()] == [b"one", b"two"]
        assert store.stats().unproven > 0
        for quick in (True, False):
            with pytest.raises(eb.errors.CorruptStore):
                store.verify(quick=quick)


def test_a_verification_says_how_deep_it_went(path):
    with eb.open(path) as store:
        for quick, depth in ((True, "quick"), (False, "full")):
            verified = store.verify(quick=quick)
            assert (verified.depth, verified.events) == (depth, 2)
            assert (verified.streams, verified.quarantined) == (2, 0)
        assert store.stats().poisoned is False


def test_a_store_of_a_newer_format_is_named(path):
    identity = path / "IDENTITY"
    content = bytearray(identity.read_bytes())
    content[8] = 2
    identity.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(eb.errors.IncompatibleFormat) as refused:
            eb.open(path, read_only=read_only)
        assert (refused.value.path, refused.value.found) == (str(identity), 2)
