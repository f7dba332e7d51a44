"""Hands the states of streams to a command, and caches them after its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from eventbraid.command._cached_state import NO_STATE
from eventbraid.command._state_cache import EVENT_BYTES
from eventbraid.command._typing import has_slots
from eventbraid.command._write import MEMBERS, STATES
from eventbraid.event._frozen import is_frozen_class

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.command._cached_state import FoldedState, Kind, Members, States
    from eventbraid.command._command_base import CommandBase
    from eventbraid.command._decision import Decision
    from eventbraid.command._state_cache import StateCache
    from eventbraid.store import Appended

DueSnapshot: TypeAlias = "tuple[Kind, str, int, object]"
"""A kind, the id of a stream, a version, and the state at this version."""

C = TypeVar("C", bound="CommandBase")


def with_states(command: C, states: States, members: Members) -> C:
    """Return a copy of a command whose handles have the states of their streams.

    One command may be executed by several threads and tasks at once, and each execution
    has its own states.
    """
    kind = type(command)
    # `copy.copy` would make more calls, and would assign to the slots of an instance
    # that is frozen.
    made = object.__new__(kind)
    attributes = vars(made)
    attributes.update(vars(command))
    attributes[STATES] = states
    attributes[MEMBERS] = members
    if has_slots(kind):
        attributes_and_slots: Any = object.__reduce_ex__(command, 2)[2]
        if isinstance(attributes_and_slots, tuple):
            _, slots = cast("tuple[object, dict[str, object]]", attributes_and_slots)
            for name, value in slots.items():
                object.__setattr__(made, name, value)
    return made


def fold_decision(
    cache: StateCache, states: States, decision: Decision
) -> list[FoldedState]:
    """Return the states after the events that a command has decided on.

    Args:
        cache: The cache of the executor.
        states: The states on which the command decided.
        decision: Its events.

    Returns:
        The new state of each written stream whose state before is known.
    """
    folded: list[FoldedState] = []
    written: dict[str, list[object]] = {}
    added: dict[str, int] = {}
    for event, encoded in zip(decision.events, decision.encoded, strict=True):
        stream = encoded.stream
        size = EVENT_BYTES + len(encoded.data)
        if stream in written:
            written[stream].append(event)
            added[stream] += size
        else:
            written[stream] = [event]
            added[stream] = size
    for kind, streams in states.items():
        for stream, decided_on in streams.items():
            if stream in written:
                events = written[stream]
                # `decide` may have changed a state that was copied for it.
                found = decided_on if decided_on[2] else cache.find(kind, stream)
                if found is not None and found[0] == decided_on[0]:
                    state = _folded(kind, stream, found[1], events)
                    folded.append(
                        (kind, stream, found, len(events), state, added[stream])
                    )
    return folded


def _folded(kind: Kind, stream: str, state: object, events: list[object]) -> object:
    """Return the state after further events, or `NO_STATE`."""
    if not kind.has_state:
        return state
    try:
        # As `stream_of` does, but without its call.
        typed = object.__new__(kind)
        typed._id = stream
        apply = typed.apply
        for event in events:
            if type(event) not in kind.foldable and not _is_foldable(kind, event):
                return NO_STATE
            state = apply(state, event)
    except Exception:  # noqa: BLE001 - whatever the kind's author raises
        # The commit doesn't depend on the state. The next command reads the events, and
        # raises the error with their place in the log.
        return NO_STATE
    return NO_STATE if state is None and not kind.may_be_none else state


def keep_states(
    cache: StateCache,
    generation: int,
    folded: Iterable[FoldedState],
    appended: Appended,
) -> list[DueSnapshot]:
    """Cache the states after the events that a command has committed.

    Args:
        cache: The cache of the executor.
        generation: The generation of the registry before the states were looked up.
        folded: The states after its events.
        appended: The result of its append.

    Returns:
        The states of which a snapshot is due.
    """
    due: list[DueSnapshot] = []
    for kind, stream, found, count, state, size in folded:
        version = appended.versions[stream]
        before = found[0]
        if before + count != version:
            continue
        if state is NO_STATE:
            # The cached state, if there is one, stays right for its own version.
            continue
        kept = cache.put(kind, stream, version, state, generation, size, found)
        if kind.snapshots is not None and cache.saves_snapshots:
            every = kind.snapshots.every
            if before // every < version // every:
                due.append((kind, stream, version, kept[1]))
    return due


def _is_foldable(kind: Kind, event: object) -> bool:
    """Return whether an event can be folded as it is, without its record.

    The caller may change an event of a class that isn't frozen. Further writes
    (``also=``) may have events that aren't of the kind; the next read refuses them.
    """
    made = cast("Any", type(event))
    is_own = kind.events is None or made in kind.events
    if is_own and is_frozen_class(made):
        kind.foldable.add(made)
    return made in kind.foldable
