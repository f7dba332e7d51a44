"""Codecs of bodies: encoded events are read back, with whatever codec they were written.

A body that no codec of the program can decode is reported by a typed error and can
still be read raw. An event without a codec costs what it did before there were codecs.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import zlib
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.event import (
    BodyContext,
    EventDecoder,
    EventRegistry,
    UndecodedEvent,
    add_codec,
    codec_id,
    plain_body,
    upcaster,
    use_codec,
)
from tests.saga_kit import Noted, Trip, inside, notes, trip


class Zlib:
    id = "test-zlib"

    def encode(self, body, context):
        del context
        return zlib.compress(body)

    def decode(self, body, context):
        del context
        return zlib.decompress(body)


class Cipher:
    """A cipher for tests only: a random nonce, a key, and the context as tweak."""

    def __init__(self, name: str, key: bytes) -> None:
        self.id = f"test-cipher:{name}"
        self._key = key

    def encode(self, body, context):
        nonce = os.urandom(16)
        return nonce + self._xor(body, nonce, context) + self._mac(body, context)

    def decode(self, body, context):
        nonce, text, mac = body[:16], body[16:-32], body[-32:]
        plain = self._xor(text, nonce, context)
        if self._mac(plain, context) != mac:
            raise ValueError("the body isn't authentic")
        return plain

    def _xor(self, text: bytes, nonce: bytes, context: BodyContext) -> bytes:
        seed = self._key + nonce + repr(context).encode()
        stream = hashlib.shake_256(seed).digest(len(text))
        return bytes(a ^ b for a, b in zip(text, stream, strict=True))

    def _mac(self, plain: bytes, context: BodyContext) -> bytes:
        return hashlib.sha256(self._key + repr(context).encode() + plain).digest()


class MessagePack:
    """Another format: the same values, as MessagePack."""

    id = "test-msgpack"

    def encode(self, body, context):
        del context
        return msgspec.msgpack.encode(msgspec.json.decode(body))

    def decode(self, body, context):
        del context
        return msgspec.json.encode(msgspec.msgpack.decode(body))


first_key = Cipher("2025", b"first")
second_key = Cipher("2026", b"second")


@eb.event("test_body_codec.plain")
class Plain:
    text: str


@eb.event("test_body_codec.secret", codec=second_key)
class Secret:
    name: str
    notes: tuple[str, ...] = ()


@eb.event("test_body_codec.secret_v3", version=3, oldest_version=3, codec=second_key)
class SecretThree:
    name: str


@eb.event("test_body_codec.long", codec=Zlib())
class Long:
    text: str


@eb.event("test_body_codec.packed", codec=MessagePack())
class Packed:
    text: str
    number: float = 1.0


class Secrets(eb.Stream[Secret, int], category="secret"):
    @staticmethod
    def initial():
        return 0

    @staticmethod
    def apply(state, event, /):
        del event
        return state + 1


@pytest.fixture
def default_codec():
    """Restore the codec of the registry, which is none."""
    yield
    use_codec(None)


@pytest.fixture
def store():
    with eb.open("memory:") as opened:
        yield opened


def only(store: eb.EventStore, stream: str) -> eb.RecordedEvent:
    [recorded] = store.read_stream(stream)
    return recorded


@pytest.mark.parametrize(
    "event",
    [
        Secret("Mia", ("a", "ß")),
        SecretThree("Mia"),
        Long("long " * 500),
        Packed("text", 0.1),
    ],
)
def test_an_encoded_event_is_read_back_equal(store, event):
    new = eb.new_event("thing-1", event, metadata={"by": "mia"})
    store.append([new])
    recorded = only(store, "thing-1")
    assert recorded.data == new.data
    assert b"text" not in recorded.data[:20]
    assert codec_id(recorded.data) is not None
    assert recorded.metadata["by"] == "mia"
    assert eb.decode_event(recorded) == event
    assert plain_body(recorded) == new.content


def test_a_subscription_delivers_encoded_events_that_can_be_decoded(store):
    store.append([eb.new_event("secret-1", Secret("Mia"))])
    with store.subscribe(category="secret") as subscription:
        assert eb.decode_event(next(subscription)) == Secret("Mia")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_body_of_any_size_is_encoded(store, size):
    store.append([eb.new_event("secret-1", Secret("é" * size))])
    assert eb.decode_event(only(store, "secret-1")) == Secret("é" * size)


# --- which codec


def test_a_body_names_its_codec_so_that_keys_can_be_rotated(store):
    old = eb.NewEvent(
        "secret-1",
        "test_body_codec.secret",
        encoded(first_key, b'{"name":"Old","notes":[]}', "secret-1"),
    )
    store.append([old, eb.new_event("secret-1", Secret("New"))])
    add_codec(first_key)
    events = list(store.read_stream("secret-1"))
    assert [codec_id(one.data) for one in events] == [first_key.id, second_key.id]
    assert [eb.decode_event(one) for one in events] == [Secret("Old"), Secret("New")]


def test_a_plain_body_of_an_event_type_that_has_a_codec_is_read(store):
    store.append([("secret-1", "test_body_codec.secret", b'{"name":"Plain"}')])
    assert eb.decode_event(only(store, "secret-1")) == Secret("Plain")
    assert plain_body(only(store, "secret-1")) == b'{"name":"Plain"}'


def test_an_encoded_body_of_an_event_type_without_a_codec_is_read(store):
    body = encoded(Zlib(), b'{"text":"hello"}', "plain-1")
    store.append([("plain-1", "test_body_codec.plain", body)])
    assert eb.decode_event(only(store, "plain-1")) == Plain("hello")


def test_a_codec_that_the_program_lacks_is_named_and_the_raw_event_is_returned(store):
    body = encoded(Cipher("lost", b"?"), b'{"name":"Mia"}', "secret-1")
    plain = ("secret-1", "test_body_codec.secret", b'{"name":"Mia"}')
    store.append([plain, ("secret-1", "test_body_codec.secret", body)])
    recorded = list(store.read_stream("secret-1"))[1]
    assert recorded.data == body
    with pytest.raises(eb.errors.UnknownCodec) as raised:
        eb.decode_event(recorded)
    error = raised.value
    assert (error.codec_id, error.stream, error.version, error.position) == (
        "test-cipher:lost",
        "secret-1",
        2,
        2,
    )
    for part in ("'test-cipher:lost'", "'secret-1'", "version 2", "add_codec"):
        assert part in str(error)
    assert isinstance(error, eb.errors.EventDecodeError)
    with pytest.raises(eb.errors.UnknownCodec):
        plain_body(recorded)


def test_a_command_on_an_event_of_a_lost_codec_raises_the_typed_error(store):
    body = encoded(Cipher("lost", b"?"), b'{"name":"Mia"}', "secret-1")
    store.append([("secret-1", "test_body_codec.secret", body)])
    with pytest.raises(eb.errors.UnknownCodec) as raised:
        eb.Executor(store).execute(Keep(secrets="secret-1", name="Mia"))
    assert raised.value.codec_id == "test-cipher:lost"
    assert store.version("secret-1") == 1


def test_the_context_is_the_same_on_both_sides(store):
    seen: list[BodyContext] = []

    class Recording(Zlib):
        id = "test-recording"

        def encode(self, body, context):
            seen.append(context)
            return super().encode(body, context)

        def decode(self, body, context):
            seen.append(context)
            return super().decode(body, context)

    @eb.event(
        "test_body_codec.recorded", version=2, oldest_version=2, codec=Recording()
    )
    class Recorded:
        text: str

    store.append([eb.new_event("thing-1", Recorded("a"))])
    eb.decode_event(only(store, "thing-1"))
    assert set(seen) == {BodyContext("thing-1", "test_body_codec.recorded", 2)}


def test_a_body_that_was_moved_to_another_stream_is_not_decoded(store):
    new = eb.new_event("secret-1", Secret("Mia"))
    store.append([("secret-2", new.type, new.data)])
    with pytest.raises(eb.errors.EventDecodeError, match="isn't authentic"):
        eb.decode_event(only(store, "secret-2"))


# --- together with upcasters and scoped registries


def test_an_encoded_event_of_an_old_version_is_upcast(store):
    @eb.event("test_body_codec.person", version=2, codec=second_key)
    class Person:
        full_name: str

    @upcaster("test_body_codec.person", from_version=1)
    def name_as_one(body):
        return {"full_name": f"{body['first']} {body['last']}"}

    kind = "test_body_codec.person"
    body = encoded(second_key, b'{"first":"Mia","last":"Lo"}', "person-1", kind)
    store.append([("person-1", kind, body)])
    store.append([eb.new_event("person-1", Person("Leo Ma"))])
    events = list(store.read_stream("person-1"))
    expected = [Person("Mia Lo"), Person("Leo Ma")]
    assert [eb.decode_event(one) for one in events] == expected
    assert EventDecoder().events(events) == tuple(expected)


def test_the_policy_for_undecodable_events_includes_unknown_codecs(store):
    body = encoded(Cipher("lost", b"?"), b'{"name":"Mia"}', "secret-1")
    store.append([("secret-1", "test_body_codec.secret", body)])
    [recorded] = EventDecoder(on_undecodable="raw").decode(only(store, "secret-1"))
    assert isinstance(recorded.event, UndecodedEvent)
    assert isinstance(recorded.event.error, eb.errors.UnknownCodec)
    assert recorded.event.raw.data == body
    set_aside: list[UndecodedEvent] = []
    decoder = EventDecoder(on_undecodable=set_aside.append)
    assert decoder.decode(only(store, "secret-1")) == ()
    assert len(set_aside) == 1
    with pytest.raises(eb.errors.UnknownCodec):
        EventDecoder().decode(only(store, "secret-1"))


def test_registries_have_codecs_of_their_own():
    ours, theirs = EventRegistry(), EventRegistry()
    for registry in (ours, theirs):
        registry.add(Plain, "test_body_codec.plain", 1)
    use_codec(Zlib(), registry=ours)
    ours.seal()
    new = eb.new_event("plain-1", Plain("a"), registry=ours)
    plain = eb.new_event("plain-1", Plain("a"), registry=theirs)
    assert (codec_id(new.data), codec_id(plain.data)) == ("test-zlib", None)
    with eb.open("memory:", registry=ours) as store:
        store.append([new])
        recorded = only(store, "plain-1")
    assert eb.decode_event(recorded, registry=ours) == Plain("a")
    assert plain_body(recorded, registry=ours) == b'{"text":"a"}'
    with pytest.raises(eb.errors.UnknownCodec):
        eb.decode_event(recorded, registry=theirs)
    add_codec(Zlib(), registry=theirs)
    assert eb.decode_event(recorded, registry=theirs) == Plain("a")


def test_a_former_name_is_encoded_like_the_new_one(store, default_codec):
    @eb.event("test_body_codec.renamed", formerly="test_body_codec.formerly")
    class Renamed:
        text: str

    use_codec(Zlib())
    store.append([("a-1", "test_body_codec.formerly", b'{"text":"old"}')])
    store.append([eb.new_event("a-1", Renamed("new"))])
    events = list(store.read_stream("a-1"))
    assert [codec_id(one.data) for one in events] == [None, "test-zlib"]
    assert [eb.decode_event(one) for one in events] == [Renamed("old"), Renamed("new")]


# --- the codec of a registry


def test_the_codec_of_the_registry_encodes_types_without_one(store, default_codec):
    use_codec(Zlib())

    @eb.event("test_body_codec.after")
    class After:
        text: str

    store.append(
        [
            eb.new_event("a-1", Plain("before")),
            eb.new_event("a-1", After("after")),
            eb.new_event("a-1", Secret("own")),
        ]
    )
    use_codec(None)
    store.append([eb.new_event("a-1", Plain("none"))])
    events = list(store.read_stream("a-1"))
    ids = ["test-zlib", "test-zlib", second_key.id, None]
    assert [codec_id(one.data) for one in events] == ids
    decoded = [eb.decode_event(one) for one in events]
    assert decoded == [Plain("before"), After("after"), Secret("own"), Plain("none")]


def test_records_of_leases_are_never_encoded(store, default_codec):
    use_codec(Zlib())
    with eb.Lease(store, "printer"):
        pass
    records = list(store.read_all(system=True))
    assert records
    assert all(codec_id(one.data) is None for one in records)


@pytest.mark.anyio
async def test_sagas_write_encoded_events_and_records_that_are_not(default_codec):
    use_codec(first_key)
    saga = trip(inside("book"), inside("board"))
    async with (
        eb.open_async("memory:") as store,
        eb.SagaCoordinator(store, [saga]) as coordinator,
    ):
        handle = await coordinator.start(saga, Trip("mia"), id="saga-1")
        ended = await handle.result()
        assert ended.outcome is eb.SagaOutcome.COMPLETED
        log = [one async for one in store.read_all(system=True)]
        assert await notes(store, "saga-1") == ["book", "board"]
    encoded_types = {one.type for one in log if codec_id(one.data) is not None}
    assert encoded_types == {eb.event_type(Noted)}
    assert any(one.type.startswith("saga.") for one in log)


# --- idempotency


class Keep(eb.Command):
    secrets: eb.Declared[Secrets]
    name: str

    def decide(self):
        assert self.secrets.state >= 0
        yield self.secrets.write(Secret(self.name))


def test_a_retry_of_a_keyed_append_is_replayed_although_its_bytes_differ(store):
    new, again = (eb.new_event("secret-1", Secret("Mia")) for _ in range(2))
    assert new.data != again.data
    assert new.content == again.content
    done = store.append([new], idempotency_key="k")
    replayed = store.append([again], idempotency_key="k")
    assert replayed.replayed
    assert replayed.first_position == done.first_position
    pickled = pickle.loads(pickle.dumps(again))
    assert pickled == again
    assert store.append([pickled], idempotency_key="k").replayed


def test_another_body_under_the_key_is_refused(store):
    store.append([eb.new_event("secret-1", Secret("Mia"))], idempotency_key="k")
    with pytest.raises(eb.errors.IdempotencyMismatch):
        store.append([eb.new_event("secret-1", Secret("Leo"))], idempotency_key="k")


def test_a_retry_after_the_key_was_rotated_is_replayed(store):
    content = b'{"name":"Mia","notes":[]}'
    old = eb.NewEvent(
        "secret-1",
        "test_body_codec.secret",
        encoded(first_key, content, "secret-1"),
        content=content,
    )
    store.append([old], idempotency_key="k")
    new = eb.new_event("secret-1", Secret("Mia"))
    assert store.append([new], idempotency_key="k").replayed


def test_a_keyed_command_with_encoded_events_is_replayed(store):
    executor = eb.Executor(store)
    done = executor.execute(Keep(secrets="secret-1", name="Mia"), idempotency_key="k")
    again = executor.execute(Keep(secrets="secret-1", name="Mia"), idempotency_key="k")
    assert again.replayed
    assert again.events == done.events == (Secret("Mia"),)
    assert store.version("secret-1") == 1


# --- codecs that don't work


def broken(
    *, encode: Any = lambda body: body, decode: Any = lambda body: body
) -> type[Any]:
    class Broken:
        id = f"test-broken-{len(made)}"

        def encode(self, body, context):
            del context
            return encode(body)

        def decode(self, body, context):
            del context
            return decode(body)

    made.append(Broken)

    @eb.event(f"test_body_codec.{Broken.id}", codec=Broken())
    class Happened:
        text: str

    return Happened


made: list[type] = []


def refuse(_: bytes) -> bytes:
    raise ConnectionError("the key service doesn't respond")


def test_an_event_that_its_codec_changes_is_refused_before_it_is_written():
    kind = broken(decode=lambda body: body.replace(b"a", b"b"))
    with pytest.raises(eb.errors.InvalidArgument, match="must return the body"):
        eb.new_event("thing-1", kind("a"))


@pytest.mark.parametrize("result", [None, "text", [1]])
def test_a_codec_that_returns_no_bytes_is_named(result):
    with pytest.raises(eb.errors.InvalidArgument, match="encode returned"):
        eb.new_event("thing-1", broken(encode=lambda _: result)("a"))
    with pytest.raises(eb.errors.InvalidArgument, match="decode returned"):
        eb.new_event("thing-1", broken(decode=lambda _: result)("a"))


def test_an_exception_of_encode_is_raised_as_it_is_with_a_note():
    with pytest.raises(ConnectionError) as raised:
        eb.new_event("thing-1", broken(encode=refuse)("a"))
    assert "nothing was written" in raised.value.__notes__[0]


def test_an_exception_of_decode_is_raised_as_a_decode_error(store):
    body = encoded(Zlib(), b'{"text":"hello"}', "long-1")[:-3]
    store.append([("long-1", "test_body_codec.long", body)])
    with pytest.raises(eb.errors.EventDecodeError, match="codec 'test-zlib' failed"):
        eb.decode_event(only(store, "long-1"))


@pytest.mark.parametrize("wrong", ["", "a b", "a\n", "x" * 65, "ß" * 33, 3, None])
def test_an_id_that_can_not_be_stored_is_refused(wrong):
    codec: Any = Zlib()
    codec.id = wrong
    with pytest.raises(eb.errors.InvalidArgument, match="codec id"):
        add_codec(codec)


@pytest.mark.parametrize("wrong", [Zlib, object(), None, "zlib"])
def test_what_is_no_codec_is_refused(wrong):
    with pytest.raises(eb.errors.InvalidArgument, match="codec"):
        add_codec(wrong)


def test_two_codecs_can_not_have_one_id():
    add_codec(Cipher("twice", b"1"))
    with pytest.raises(eb.errors.InvalidArgument, match="already has it"):
        add_codec(Cipher("twice", b"2"))
    add_codec(Cipher("twice", b"2"), replace=True)


def test_the_plain_body_of_an_event_with_a_codec_is_not_returned():
    with pytest.raises(eb.errors.InvalidArgument, match="use new_event"):
        eb.encode_event(Secret("Mia"))


# --- the header


@given(st.binary(max_size=80))
def test_any_bytes_have_a_codec_id_or_none(data):
    found = codec_id(data)
    assert found is None or data.startswith(b"\xc1\x01")


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_no_json_is_taken_for_an_encoded_body(value):
    assert codec_id(msgspec.json.encode(value)) is None
    assert codec_id(msgspec.msgpack.encode(str(value))) is None


# --- the cost of an event without a codec


def calls_of(store: eb.EventStore) -> int:
    count = 0

    def profile(_frame: object, what: str, _argument: object) -> None:
        nonlocal count
        count += what == "call"

    recorded = only(store, "plain-1")
    sys.setprofile(profile)
    try:
        eb.new_event("plain-1", Plain("hello"))
        eb.decode_event(recorded)
    finally:
        sys.setprofile(None)
    return count


CALLS = 9


def test_an_event_without_a_codec_makes_the_same_calls_as_before(store, default_codec):
    """Encoding and decoding make no call for codecs."""
    store.append([eb.new_event("plain-1", Plain("hello"))])
    eb.decode_event(only(store, "plain-1"))
    assert calls_of(store) == CALLS
    use_codec(Zlib())
    use_codec(None)
    assert calls_of(store) == CALLS


def encoded(
    codec: Any, body: bytes, stream: str, kind: str = "test_body_codec.secret"
) -> bytes:
    """Return a body as another program would have written it."""
    name = codec.id.encode()
    inner = codec.encode(body, BodyContext(stream, kind, 1))
    return b"\xc1\x01" + bytes([len(name)]) + name + inner


def test_a_recorded_event_has_no_content(store):
    new = eb.NewEvent(
        "a-1", "raw", b"cipher", event_id=UUID(int=1), content=b"plain text"
    )
    assert new.content == b"plain text"
    assert "plain text" not in repr(new)
    assert eb.NewEvent("a-1", "raw", b"body").content == b"body"
    assert new != eb.NewEvent("a-1", "raw", b"cipher", event_id=UUID(int=1))
    store.append([new])
    assert only(store, "a-1").data == b"cipher"
