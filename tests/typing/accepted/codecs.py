"""Codecs of bodies: an object with an id and two methods is one."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import eventbraid as eb
from eventbraid.event import (
    BodyCodec,
    BodyContext,
    add_codec,
    codec_id,
    plain_body,
    use_codec,
)


class Zlib:
    id = "zlib"

    def encode(self, body: bytes, context: BodyContext) -> bytes:
        return zlib.compress(body)

    def decode(self, body: bytes, context: BodyContext) -> bytes:
        return zlib.decompress(body)


@dataclass(frozen=True)
class Cipher:
    key_name: str

    @property
    def id(self) -> str:
        return f"cipher:{self.key_name}"

    def encode(self, body: bytes, context: BodyContext, /) -> bytes:
        return body + context.stream.encode()

    def decode(self, body: bytes, context: BodyContext, /) -> bytes:
        return body[: -len(context.stream.encode())]


@eb.event("typing.codecs.secret", codec=Cipher("2026"))
class Secret:
    text: str


codec: BodyCodec = Zlib()
add_codec(codec, replace=True)
use_codec(Cipher("2025"))
use_codec(None)


def names(recorded: eb.RecordedEvent) -> tuple[str | None, bytes]:
    return codec_id(recorded.data), plain_body(recorded)


class Vault(
    eb.Stream[Secret, str],
    category="vault",
    snapshot_every=100,
    snapshot_codec=Cipher("2026"),
):
    def initial(self) -> str:
        return ""

    def apply(self, state: str, event: Secret, /) -> str:
        return event.text
