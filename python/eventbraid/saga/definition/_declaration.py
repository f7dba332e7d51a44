"""The identity of a declaration: the saga's name, its version and its graph hash."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.store import RecordedEvent


class Declaration(NamedTuple):
    """The identity of the declaration that a program needs to drive a saga.

    Attributes:
        saga: The saga's name.
        version: The version of its graph.
        graph_hash: The hash of its graph.
    """

    saga: str
    version: int
    graph_hash: str

    @property
    def digest(self) -> str:
        """A hash of 16 hexadecimal digits, for the name of a lease."""
        encoded = msgspec.json.encode(self)
        return hashlib.blake2b(encoded, digest_size=8).hexdigest()


class _Head(msgspec.Struct):
    saga: str
    version: int
    graph_hash: str


_heads = msgspec.json.Decoder(_Head)


def declaration_of(saga: Saga[Any]) -> Declaration:
    """Return the identity of a saga's declaration."""
    return Declaration(saga.name, saga.version, saga.graph_hash)


def recorded_declaration(started: RecordedEvent) -> Declaration | None:
    """Read the declaration from the first record of a saga.

    The rest of the record, such as the input, isn't decoded.

    Returns:
        The declaration; None if the record can't be read, for example because a
        different program wrote it.
    """
    try:
        head = _heads.decode(started.data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return Declaration(head.saga, head.version, head.graph_hash)
