"""The short way of a command that needs no retry, no discovery and no idempotency key.

Most executions are of this kind: the states of the streams are in the cache, or their
streams are read once; the command decides; the append succeeds. This function does
these steps without the objects that a retry needs. Whenever something else happens, it
leaves the execution to `Execution`, which begins again or continues after the conflict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.command._decision import decided, expectations
from eventbraid.command._executed import Executed
from eventbraid.command._immutable import is_immutable
from eventbraid.command._snapshots import save_snapshots
from eventbraid.command._stream_fold import fold_events
from eventbraid.command._stream_states import fold_decision, keep_states
from eventbraid.command._write import STATES
from eventbraid.errors import VersionConflict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventbraid.command._cached_state import Kind, States
    from eventbraid.command._command import Command
    from eventbraid.command._decision import Decision
    from eventbraid.command._port import Port
    from eventbraid.command._queue import StreamQueues
    from eventbraid.command._state_cache import StateCache
    from eventbraid.command._typing import EventKinds
    from eventbraid.command._write import Write
    from eventbraid.event import EventDecoder
    from eventbraid.store import Expectation, RecordedEvent

EVENTS_LIMIT = 64
"""The maximum number of events that are folded without letting other tasks run."""

STREAMS_LIMIT = 64
"""The maximum number of streams of a field that declares many."""

_new = object.__new__


class FailedAttempt:
    """A conflict of the first attempt, with what the next one needs of it."""

    __slots__ = ("conflict", "decision", "versions")

    def __init__(
        self,
        conflict: VersionConflict,
        decision: Decision,
        versions: Mapping[str, int],
    ) -> None:
        """Keep the conflict."""
        self.conflict = conflict
        self.decision = decision
        self.versions = versions


async def execute_fast(  # noqa: C901, PLR0912, PLR0915 - a helper would be one more call
    command: Command,
    metadata: Mapping[str, str] | None,
    also: tuple[Write, ...],
    expect: Mapping[str, Expectation] | None,
    port: Port,
    cache: StateCache,
    queues: StreamQueues,
    decoder: EventDecoder,
) -> tuple[Executed | None, FailedAttempt | None]:
    """Make the first attempt of a command.

    Args:
        command: A command whose class has ``plain_streams``.
        metadata: The metadata of all events.
        also: Further writes of the same commit.
        expect: Further expectations of the same commit.
        port: The operations of the store.
        cache: The states of streams that commands used before.
        queues: The queues of contended streams.
        decoder: The decoder of the events; that of the cache.

    Returns:
        The result, or else the conflict of the append. If both are None, nothing was
        appended, and `Execution` has to begin again.

    Raises:
        OutcomeUnknown: The store can't determine whether the commit happened.
    """
    values = command.__dict__
    states: States = {}
    versions: dict[str, int] = {}
    kinds: dict[str, EventKinds] = {}
    missing: dict[str, Kind] = {}
    position: int | None = None
    generation = cache.registry.generation
    for name, kind, is_many in command.plain_streams or ():
        streams = values[name] if is_many else (values[name],)
        if len(streams) > STREAMS_LIMIT:
            return None, None
        of_kind = states.setdefault(kind, {})
        for stream in streams:
            kinds[stream] = kind.events
            found = cache.find(kind, stream)
            if found is None:
                missing[stream] = kind
            else:
                of_kind[stream] = found
                versions[stream] = found[0]
    if queues.contended(kinds) or not cache.pending.contended.keys().isdisjoint(kinds):
        # On contended streams, the append is linked to those before it.
        return None, None
    loading = cache.loading
    for stream, kind in missing.items():
        # Another command reads the stream already, or the kind has snapshots.
        if kind.snapshots is not None or (kind, stream) in loading:
            return None, None
    trace = port.trace
    if trace is not None:
        trace.begin_attempt(1)
        trace.note_lookups(kinds, missing)
        trace.enter("fold")
    try:
        if missing:
            position = await _read(port, cache, missing, states, versions, decoder)
            if position is None:
                return None, None
        # The same copy of the command as in `with_states`, but without a call.
        owner = _new(type(command))
        attributes = vars(owner)
        attributes.update(values)
        attributes[STATES] = states
        if trace is not None:
            trace.enter("decide")
        decision = decided(
            owner,
            owner.decide(),
            kinds,
            metadata,
            also,
            _no_deadline,
            cache.registry,
        )
        wanted = expectations(versions, expect) if expect else versions
    except Exception:  # noqa: BLE001 - the command's code may raise anything
        # `Execution` calls the command again, and confirms what it raises.
        return None, None
    if not decision.encoded and not wanted:
        return None, None
    try:
        appended = await port.append(decision.encoded, expect=wanted)
    except VersionConflict as conflict:
        return None, FailedAttempt(conflict, decision, versions)
    try:
        folded = fold_decision(cache, states, decision)
        due = keep_states(cache, generation, folded, appended)
        if due:
            await save_snapshots(port, due, decoder.registry)
        done = Executed(
            events=decision.events,
            versions=appended.versions,
            first_position=appended.first_position,
            last_position=appended.last_position,
            read_position=position,
            attempts=1,
            replayed=False,
        )
    except BaseException as interruption:
        # A cancellation or Ctrl-C, after the commit of the command.
        interruption.__dict__["outcome_unknown"] = True
        raise
    return done, None


async def _read(
    port: Port,
    cache: StateCache,
    missing: Mapping[str, Kind],
    states: States,
    versions: dict[str, int],
    decoder: EventDecoder,
) -> int | None:
    """Read streams from their beginning, and return the position of the read.

    Returns:
        The position; None if there are too many events. Then `Execution` continues from
        the states of the first ones, and lets other tasks run.
    """
    generation = cache.registry.generation
    loading = set(zip(missing.values(), missing, strict=True))
    cache.loading |= loading
    try:
        page = await port.read_streams(missing, limit=EVENTS_LIMIT)
    finally:
        cache.loading -= loading
    events: Sequence[RecordedEvent] = page.events
    by_stream: dict[str, list[RecordedEvent]] = {}
    if len(missing) > 1:
        for one in events[:EVENTS_LIMIT]:
            by_stream.setdefault(one.stream, []).append(one)
    is_complete = True
    for stream, kind in missing.items():
        version = versions[stream] = page.versions[stream]
        state: object = None
        if kind.has_state:
            # As `initial_state` and `fold_recorded` do, but without their calls.
            typed = _new(kind)
            typed._id = stream  # noqa: SLF001
            state = typed.initial()
            if version:
                own = by_stream.get(stream, ()) if by_stream else events[:EVENTS_LIMIT]
                if own:
                    state = fold_events(kind, typed, state, own, decoder)
                if len(own) < version:
                    is_complete = False
                    entry = (len(own), state, is_immutable(state), 0, 0)
                    cache.note_progress(kind, stream, entry, generation)
                    continue
        entry = cache.put(kind, stream, version, state, generation)
        if not entry[2]:
            entry = cache.own_copy(kind, stream, entry) or entry
        states[kind][stream] = entry
    return page.position if is_complete else None


def _no_deadline() -> None:
    """Return at once, because these executions have no deadline."""
