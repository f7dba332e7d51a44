"""Folds the recorded events of one stream into its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid._recorded import Parts
from eventbraid._undecoded import UndecodedEvent
from eventbraid.command._typing import is_covered
from eventbraid.domain._annotation import is_defined_again
from eventbraid.errors import EventDecodeError, FoldError, InvalidArgument
from eventbraid.event._decode_steps import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.command._stream import Stream
    from eventbraid.event import EventDecoder
    from eventbraid.store import RecordedEvent


def stream_of(kind: type[Stream[Any, Any]], stream: str) -> Stream[Any, Any]:
    """Build a stream of a kind whose id was checked before."""
    made = object.__new__(kind)
    made._id = stream
    return made


def initial_state(kind: type[Stream[Any, Any]], stream: str) -> object:
    """Return the state of a stream before any event; None for a kind without state."""
    return stream_of(kind, stream).initial() if kind.has_state else None


def fold_recorded(
    kind: type[Stream[Any, Any]],
    stream: str,
    state: object,
    recorded: Iterable[RecordedEvent],
    decoder: EventDecoder,
) -> object:
    """Return the state after more recorded events.

    Args:
        kind: The stream's kind.
        stream: The stream's id.
        state: The state before these events.
        recorded: The events, in order.
        decoder: The decoder of the executor.

    Raises:
        EventDecodeError: An event can't be decoded, or isn't one of the kind's events.
        UnknownEventType: An event's class isn't registered.
        FoldError: `apply` raised an exception.
        InvalidArgument: `apply` returned None, which isn't a state of the kind.
    """
    if not kind.has_state:
        return None
    return fold_events(kind, stream_of(kind, stream), state, recorded, decoder)


def fold_events(
    kind: type[Stream[Any, Any]],
    stream: Stream[Any, Any],
    state: object,
    recorded: Iterable[RecordedEvent],
    decoder: EventDecoder,
) -> object:
    """As `fold_recorded`, for a kind that has a state and a stream that was built."""
    apply, kinds, may_be_none = stream.apply, kind.events or (), kind.may_be_none
    decoders = decoder.current_decoders()
    for one in recorded:
        # As `decoder.event` does, but without its call.
        decode = decoders.get(one.type)
        if decode is None or one.metadata_value(SCHEMA_VERSION) is not None:
            decoded = decoder.event(one)
        else:
            try:
                decoded = decode(one.data)
            except Exception:  # noqa: BLE001 - the decoder applies its policy
                decoded = decoder.event(one)
        if type(decoded) not in kinds:
            state = _fold_others(kind, stream, state, one, decoded)
            continue
        # As `_fold_others` does, but without its call: nearly every event passes here.
        try:
            state = apply(state, decoded)
        except Exception as error:
            raise _fold_error(stream, one) from error
        if state is None and not may_be_none:
            raise _missing_state(kind, one, decoded)
    return state


def _fold_others(
    kind: type[Stream[Any, Any]],
    stream: Stream[Any, Any],
    state: object,
    recorded: RecordedEvent,
    decoded: object,
) -> object:
    """Fold a record of which upcasters made several events, or of another class."""
    events: tuple[object, ...] = decoded if isinstance(decoded, Parts) else (decoded,)
    for event in events:
        _refuse_foreign(kind, recorded, event)
    for event in events:
        try:
            state = stream.apply(state, event)
        except Exception as error:
            raise _fold_error(stream, recorded) from error
        if state is None and not kind.may_be_none:
            raise _missing_state(kind, recorded, event)
    return state


def _fold_error(stream: Stream[Any, Any], recorded: RecordedEvent) -> FoldError:
    return FoldError(
        type(stream).__name__,
        recorded.type,
        stream.id,
        recorded.version,
        recorded.position,
    )


def _missing_state(
    kind: type[Stream[Any, Any]], recorded: RecordedEvent, event: object
) -> InvalidArgument:
    return InvalidArgument(
        f"state of {kind.__name__}",
        "None",
        f"{kind.__name__}.apply() returned None for {type(event).__name__}, version "
        f"{recorded.version} of {recorded.stream!r}; return the state for each event, "
        "also for one that doesn't change it",
    )


def _refuse_foreign(
    kind: type[Stream[Any, Any]], recorded: RecordedEvent, event: object
) -> None:
    """Raise if an event isn't one of the kind's events."""
    kinds, found = kind.events, type(event)
    if kinds is None or is_covered(found, kinds):
        return
    if isinstance(event, UndecodedEvent):
        # The executor hands it over, but this kind doesn't expect it.
        raise event.error
    reason = (
        f"{kind.__name__} doesn't apply {found.__name__}; add it to the events of the "
        "kind and to its apply()"
    )
    if any(is_defined_again(one, found) for one in kinds):
        reason = (
            f"the class {found.__name__} was defined again after {kind.__name__}; "
            f"define {kind.__name__} again, too"
        )
    raise EventDecodeError(recorded.type, recorded.stream, recorded.position, reason)
