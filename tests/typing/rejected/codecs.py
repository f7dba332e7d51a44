"""Wrong codecs: both checkers must refuse each marked line."""

from __future__ import annotations

import eventbraid as eb
from eventbraid.event import BodyContext, add_codec, use_codec

from tests.typing.accepted.codecs import Zlib


class OneWay:
    id = "one-way"

    def encode(self, body: bytes, context: BodyContext) -> bytes:
        return body


class ToText:
    id = "text"

    def encode(self, body: bytes, context: BodyContext) -> str:
        return body.decode()

    def decode(self, body: bytes, context: BodyContext) -> bytes:
        return body


class Numbered:
    id = 3

    def encode(self, body: bytes, context: BodyContext) -> bytes:
        return body

    def decode(self, body: bytes, context: BodyContext) -> bytes:
        return body


add_codec(OneWay())  # refused: it has no decode
use_codec(ToText())  # refused: encode returns no bytes
use_codec(Numbered())  # refused: an id is a text
use_codec("zlib")  # refused: an id is no codec
use_codec(Zlib)  # refused: a class is no instance


@eb.event("typing.codecs.one_way", codec=OneWay())  # refused: it has no decode
class Happened:
    text: str


eb.NewEvent("a-1", "t", b"", content="plain")  # refused: a text is no bytes


class Vault(eb.Stream[Happened, str], category="vault", snapshot_every=9, snapshot_codec=OneWay()):  # refused: it has no decode
    def initial(self) -> str:
        return ""

    def apply(self, state: str, event: Happened, /) -> str:
        return event.text
