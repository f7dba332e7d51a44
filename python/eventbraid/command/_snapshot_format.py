"""The format of snapshots: the recorded states of streams.

With a snapshot, a long stream needn't be folded from its first event.

A snapshot is an event on a system stream of its own: ``$snapshot-``, the kind, the
version of the fold, and the stream. It has the version of the stream up to which its
state is folded. A snapshot never replaces the events: it may be missing, be older than
the stream, or be written twice. It is ignored if another kind or another version of
the fold wrote it, or if it can't be decoded.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from eventbraid._logging import COMMAND
from eventbraid.domain._annotation import name_of
from eventbraid.domain._schema import problem
from eventbraid.domain._schema_builder import schema_of
from eventbraid.event._codec import SchemaCodec
from eventbraid.event._wire import Wire
from eventbraid.store import NewEvent
from eventbraid.store._system import system_event

PREFIX = "$snapshot-"
EVENT_TYPE = "stream.snapshot"

LARGEST_BYTES = 2**20
"""The maximum size of a snapshot. To read a larger one takes as long as a fold."""

_LONGEST_ID = 255


class _Record(msgspec.Struct, frozen=True):
    """The body of a snapshot."""

    kind: str
    fold: int
    stream: str
    version: int
    state: msgspec.Raw


class SnapshotFormat:
    """The encoding of the snapshots of one kind of streams.

    Args:
        kind: The kind.
        every: The number of events after which a snapshot is written.
        fold: The version of the kind's fold.
        state: The type of its states.

    Raises:
        TypeError: States of this type can't be decoded.
    """

    __slots__ = ("_codec", "_fold", "_identity", "_name", "every")

    def __init__(self, kind: type[Any], every: int, fold: int, state: object) -> None:
        """Build the codec of the states."""
        self.every = every
        self._fold = fold
        self._name = kind.__name__
        self._identity = f"{kind.__module__}.{kind.__qualname__}"
        try:
            schema = schema_of(state)
            found = problem(schema) or Wire(schema).problem()
            if found is not None:
                raise TypeError(": ".join(filter(None, found)))  # noqa: TRY301 - as from schema_of
            self._codec = SchemaCodec(schema)
        except (TypeError, NameError) as error:
            raise TypeError(
                f"{kind.__name__} can't have snapshots: its state has the type "
                f"{name_of(state)}, which couldn't be read back ({error}); use a "
                "dataclass, a Struct, a pydantic model or a built-in type, or leave "
                "out snapshot_every"
            ) from error

    def stream_of(self, stream: str) -> str:
        """Return the system stream with the snapshots of a stream."""
        name = f"{PREFIX}{self._name}.{self._fold}-{stream}"
        if len(name.encode()) <= _LONGEST_ID:
            return name
        digest = hashlib.blake2b(name.encode(), digest_size=32).hexdigest()
        return f"{PREFIX}{digest}"

    def encoded(self, stream: str, version: int, state: object) -> NewEvent | None:
        """Return the event to append; None if the snapshot would be too large.

        Raises:
            Exception: The state couldn't be read back.
        """
        raw = msgspec.Raw(self._codec.encode(state))
        record = _Record(self._identity, self._fold, stream, version, raw)
        data = msgspec.json.encode(record)
        if len(data) > LARGEST_BYTES:
            return None
        return system_event(NewEvent(self.stream_of(stream), EVENT_TYPE, data))

    def decoded(
        self, stream: str, data: bytes
    ) -> tuple[int, Any, bool, int, int] | None:
        """Return a snapshot as a cached state is; None if it doesn't apply."""
        try:
            record = msgspec.json.decode(data, type=_Record)
            if (record.kind, record.fold, record.stream) != (
                self._identity,
                self._fold,
                stream,
            ):
                return None
            state: Any = self._codec.decode(bytes(record.state))
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
