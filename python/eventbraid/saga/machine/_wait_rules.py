"""The decisions about waits: when they begin, and what ends them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from eventbraid.saga._defect_classification import Defect, trouble_of
from eventbraid.saga._text import shown, text_of
from eventbraid.saga.machine._due_times import TOLERANCE
from eventbraid.saga.machine._events import (
    SignalReceived,
    SignalRefused,
    StepFailed,
    WaitEnded,
    WaitStarted,
)

if TYPE_CHECKING:
    import msgspec

    from eventbraid.saga._defect_classification import Where
    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.definition._wait import WaitStep
    from eventbraid.saga.machine._branch import Branch
    from eventbraid.saga.machine._draft import Draft, RecordDraft
    from eventbraid.saga.machine._outcomes import SignalRequest

S = TypeVar("S")

_TIMED_OUT = "TimedOut"


def receive_signal(draft: RecordDraft, request: SignalRequest) -> None:
    """Record a signal."""
    draft.record(
        SignalReceived(request.signal, request.payload, request.by, request.note)
    )


def proceed_with_wait(draft: Draft[Any], node: WaitStep[Any], branch: Branch) -> bool:
    """Record the end of a wait, if a signal or the time ends it, or else its start.

    Returns:
        Whether the wait has ended, by success or by failure.

    Raises:
        Defect: A function of the wait raised, or returned a wrong value.
        Outage: A function of the wait raised an `OSError`.
    """
    if _end_with_signal(draft, node):
        return True
    if branch.waiting is None:
        until = _end_of(draft, node)
        draft.record(WaitStarted(node.name, until))
    else:
        until = branch.waiting.until
        if node.timeout is not None and until is not None:
            # The recorded time is wrong if it is further ahead than the whole timeout.
            # Then it was recorded by a wall clock that has been set back since.
            longest = draft.now + node.timeout
            if until > longest + TOLERANCE:
                until = longest
                draft.record(WaitStarted(node.name, until))
    if until is None or until > draft.now:
        return False
    _end_with_time(draft, node)
    return True


def fold_wait(
    saga: Saga[S],
    event: WaitEnded,
    payload: msgspec.Raw | None,
    data: Encoded[S],
) -> Encoded[S]:
    """Fold the payload of a signal, or the end of the time, into the data.

    Args:
        saga: The saga's declaration.
        event: The record of the wait's end.
        payload: The payload of the signal, as JSON; None if the time ended the wait.
        data: The data before.

    Raises:
        UnfitValue: A function returned a value that is not a state of this saga.
        Exception: The exception that the function raised.
    """
    node = cast("WaitStep[S]", saga.by_name[event.step])
    if payload is None:
        if node.on_timeout is None:
            return data
        return saga.keep_state(node.name, node.on_timeout(data.read()))
    case = node.cases[event.signal]
    if case.then is None:
        return data
    decoded = case.signal.codec.decode(payload)
    return saga.keep_state(node.name, case.then(data.read(), decoded))


def _end_with_signal(draft: Draft[Any], node: WaitStep[Any]) -> bool:
    for number, received in draft.progress.signals:
        case = node.cases.get(received.signal)
        if case is None:
            continue
        try:
            case.signal.codec.decode(received.payload)
        except Exception as error:  # noqa: BLE001 - recorded: the payload comes from outside
            refused = SignalRefused(received.signal, number, text_of(error))
            draft.record(refused)
            continue
        event = WaitEnded(node.name, received.signal, number)
        _record_end(draft, event, received.payload)
        return True
    return False


def _end_with_time(draft: Draft[Any], node: WaitStep[Any]) -> None:
    if node.continues:
        _record_end(draft, WaitEnded(node.name), None)
        return
    signals = " or ".join(node.cases)
    message = f"no signal {signals} within {node.timeout}"
    draft.record(StepFailed(node.name, _TIMED_OUT, message))


def _record_end(
    draft: Draft[Any], event: WaitEnded, payload: msgspec.Raw | None
) -> None:
    try:
        data = fold_wait(draft.saga, event, payload, draft.data)
    except BaseException as error:
        where: Where = "on_timeout" if payload is None else "then"
        raise trouble_of(event.step, where, error) from error
    draft.record(event)
    draft.take_data(data)


def _end_of(draft: Draft[Any], node: WaitStep[Any]) -> datetime | None:
    """Return the time at which a wait that begins now ends; None: it has no end."""
    if node.timeout is not None:
        return draft.now + node.timeout
    if node.until is None:
        return None
    try:
        until = cast("object", node.until(draft.data.read()))
    except BaseException as error:
        raise trouble_of(node.name, "until", error) from error
    if isinstance(until, datetime) and until.tzinfo is not None:
        return until
    wrong = TypeError(
        f"`until` of step {node.name!r} returned {shown(until)}; expected a datetime "
        "with a time zone"
    )
    raise Defect(node.name, "until", wrong)
