"""The format of snapshots: the recorded states of streams.

With a snapshot, a long stream needn't be folded from its first event.

A snapshot is an event on a system stream of its own: ``$snapshot-``, the kind, the
version of the fold, a digest, and the stream. It has the version of the stream up to
which its state is folded. A snapshot never replaces the events: it may be missing, be
older than the stream, or be written twice. It is ignored if another kind or another
version of the fold wrote it, or if it can't be decoded.

The digest is of what changes a fold without a change of `apply`: the form of the state,
the schema versions of the kind's events, and their upcasters. It isn't of the code of
functions, so a program has to increase the version of the fold when it changes one.

A snapshot contains the data of the events. So it is encoded by their codec, with the id
of the stream itself as the context, not that of the system stream. A codec that has a
key for each stream then uses the same key for the events and for their snapshots.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from eventbraid._logging import COMMAND
from eventbraid.command._typing import is_covered
from eventbraid.domain._annotation import name_of
from eventbraid.domain._schema import problem
from eventbraid.domain._schema_builder import schema_of
from eventbraid.errors import EventDecodeError, InvalidArgument, UnknownCodec
from eventbraid.event._body_codec import (
    BodyContext,
    codec_id,
    decoded_body,
    encoded_body,
    validated,
)
from eventbraid.event._codec import SchemaCodec
from eventbraid.event._json_schema import SchemaWriter
from eventbraid.event._wire import Wire
from eventbraid.store import NewEvent
from eventbraid.store._system import system_event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventbraid.domain._schema import Schema
    from eventbraid.event import BodyCodec, EventRegistry
    from eventbraid.event._event_type import EventType
    from eventbraid.store import RecordedEvent

PREFIX = "$snapshot-"
EVENT_TYPE = "stream.snapshot"

LARGEST_BYTES = 2**20
"""The maximum size of a snapshot. To read a larger one takes as long as a fold."""

_LONGEST_ID = 255
_DIGEST_BYTES = 8


class _Record(msgspec.Struct, frozen=True):
    """The body of a snapshot."""

    kind: str
    fold: int
    digest: str
    stream: str
    version: int
    state: msgspec.Raw


@dataclass(frozen=True, slots=True)
class SnapshotEncoding:
    """The part of a format that depends on the registry of the events.

    Attributes:
        digest: The digest of the state's form and of the events' schemas.
        codec: The codec of the snapshots; None if they are JSON.
    """

    digest: str
    codec: BodyCodec | None


class SnapshotFormat:
    """The encoding of the snapshots of one kind of streams.

    Args:
        kind: The kind.
        every: The number of events after which a snapshot is written.
        fold: The version of the kind's fold.
        state: The type of its states.
        codec: The codec of the snapshots; by default, that of the kind's events.

    Attributes:
        every: The number of events after which a snapshot is written.
        fold: The version of the kind's fold.
        own_codec: The codec that the kind names, if any.

    Raises:
        TypeError: States of this type can't be decoded.
        InvalidArgument: The codec isn't one.
    """

    __slots__ = (
        "_codec",
        "_events",
        "_identity",
        "_name",
        "_state_form",
        "every",
        "fold",
        "own_codec",
    )

    def __init__(
        self,
        kind: type[Any],
        every: int,
        fold: int,
        state: object,
        codec: BodyCodec | None = None,
    ) -> None:
        """Build the codec of the states."""
        self.every = every
        self.fold = fold
        self._name = kind.__name__
        self._identity = f"{kind.__module__}.{kind.__qualname__}"
        self._events: frozenset[type] | None = kind.events
        self.own_codec = None if codec is None else validated(codec)
        try:
            schema = schema_of(state)
            found = problem(schema) or Wire(schema).problem()
            if found is not None:
                raise TypeError(": ".join(filter(None, found)))  # noqa: TRY301 - as from schema_of
            self._codec = SchemaCodec(schema)
            self._state_form = _form_of(schema)
        except (TypeError, NameError) as error:
            raise TypeError(
                f"{kind.__name__} can't have snapshots: its state has the type "
                f"{name_of(state)}, which couldn't be read back ({error}); use a "
                "dataclass, a Struct, a pydantic model or a built-in type, or leave "
                "out snapshot_every"
            ) from error

    def stream_of(self, stream: str, registry: EventRegistry) -> str:
        """Return the system stream with the snapshots of a stream.

        Raises:
            InvalidArgument: The codec of the snapshots can't be determined.
        """
        digest = self._encoding(registry).digest
        name = f"{PREFIX}{self._name}.{self.fold}.{digest}-{stream}"
        if len(name.encode()) <= _LONGEST_ID:
            return name
        digest = hashlib.blake2b(name.encode(), digest_size=32).hexdigest()
        return f"{PREFIX}{digest}"

    def encoded(
        self, stream: str, version: int, state: object, registry: EventRegistry
    ) -> NewEvent | None:
        """Return the event to append; None if the snapshot would be too large.

        Raises:
            Exception: The state couldn't be read back, or its codec failed.
        """
        encoding = self._encoding(registry)
        raw = msgspec.Raw(self._codec.encode(state))
        record = _Record(
            self._identity, self.fold, encoding.digest, stream, version, raw
        )
        data = msgspec.json.encode(record)
        if len(data) > LARGEST_BYTES:
            return None
        if encoding.codec is not None:
            data = encoded_body(encoding.codec, data, self._context(stream))
        return system_event(
            NewEvent(self.stream_of(stream, registry), EVENT_TYPE, data)
        )

    def decoded(
        self, stream: str, recorded: RecordedEvent, registry: EventRegistry
    ) -> tuple[int, Any, bool, int, int] | None:
        """Return a snapshot as a cached state is; None if it doesn't apply."""
        encoding = self._encoding(registry)
        data = recorded.data
        try:
            if codec_id(data) is not None:
                data = self._plain(stream, recorded, registry)
            record = msgspec.json.decode(data, type=_Record)
            if (record.kind, record.fold, record.digest, record.stream) != (
                self._identity,
                self.fold,
                encoding.digest,
                stream,
            ):
                return None
            state: Any = self._codec.decode(bytes(record.state))
        except EventDecodeError as error:
            # The codec is missing or has failed.
            COMMAND.warning(
                "a snapshot of %s is not used, and the stream is folded from its first "
                "event: %s",
                stream,
                error,
            )
            return None
        except Exception as error:  # noqa: BLE001 - the state's class may raise anything
            COMMAND.warning(
                "a snapshot of %s can't be decoded, so the stream is folded from its "
                "first event: %s; increase fold_version of %s if its state or its "
                "apply() has changed",
                stream,
                error,
                self._name,
            )
            return None
        return record.version, state, False, 0, 0

    def _plain(
        self, stream: str, recorded: RecordedEvent, registry: EventRegistry
    ) -> bytes:
        """Return the body of a snapshot that a codec has encoded.

        Raises:
            UnknownCodec: The program doesn't have the codec.
            EventDecodeError: The codec has failed.
        """
        written = codec_id(recorded.data) or ""
        codec = self.own_codec
        if codec is None or codec.id != written:
            codec = registry.codecs.get(written)
        if codec is None:
            raise UnknownCodec(
                written,
                recorded.type,
                recorded.stream,
                recorded.version,
                recorded.position,
            )
        try:
            return decoded_body(codec, recorded.data, self._context(stream))
        except Exception as error:
            reason = f"the codec {written!r} failed: {type(error).__name__}: {error}"
            raise EventDecodeError(
                recorded.type, recorded.stream, recorded.position, reason
            ) from error

    def _context(self, stream: str) -> BodyContext:
        return BodyContext(stream, EVENT_TYPE, self.fold)

    def _encoding(self, registry: EventRegistry) -> SnapshotEncoding:
        """Return the digest and the codec, which are determined once a registry.

        Raises:
            InvalidArgument: The kind's events have several codecs, and the kind names
                none for its snapshots.
        """
        return registry.derived(self, lambda: self._determine(registry))

    def _determine(self, registry: EventRegistry) -> SnapshotEncoding:
        types = [
            one
            for one in registry.types()
            if self._events is None or is_covered(one.kind, self._events)
        ]
        form = [self._state_form, *sorted(_changes_of(types, registry))]
        digest = hashlib.blake2b(json.dumps(form).encode(), digest_size=_DIGEST_BYTES)
        return SnapshotEncoding(digest.hexdigest(), self._codec_of(types))

    def _codec_of(self, types: list[EventType]) -> BodyCodec | None:
        if self.own_codec is not None:
            return self.own_codec
        codecs = {one.body_codec.id: one.body_codec for one in types if one.body_codec}
        if len(codecs) > 1:
            raise InvalidArgument(
                f"codecs of the events of {self._name}",
                ", ".join(sorted(codecs)),
                "its snapshots contain the data of all of them; name the codec of the "
                f"snapshots: class {self._name}(..., snapshot_codec=...)",
            )
        return next(iter(codecs.values()), None)


def _form_of(schema: Schema) -> str:
    """Return a text that changes when the fields of a state change."""
    writer = SchemaWriter()
    form = writer.of_schema(schema)
    return json.dumps([form, writer.definitions], sort_keys=True)


def _changes_of(types: list[EventType], registry: EventRegistry) -> Iterator[str]:
    """Iterate over what has changed since the first version of some event types.

    A type that is added in its first version changes no fold: a stream that had such an
    event before couldn't be folded. So it doesn't make existing snapshots useless.
    """
    names = registry.names_read_as(one.kind for one in types)
    for one in types:
        if one.version != 1:
            yield f"{one.name}@{one.version}"
    for (name, version), upcaster in registry.upcasters.items():
        if name in names:
            targets = sorted(
                f"{target}@{number}" for target, number in upcaster.targets
            )
            yield f"{name}@{version} > {', '.join(targets)}"
