"""The transitions of waits and signals: the changes that each record makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from eventbraid.saga.definition._graph import WAIT
from eventbraid.saga.machine._branch import Branch, Waiting, replaced
from eventbraid.saga.machine._progress import with_root
from eventbraid.saga.machine._transition_checks import refuse, require_next

if TYPE_CHECKING:
    from eventbraid.saga.machine._events import (
        SagaEvent,
        SignalReceived,
        SignalRefused,
        WaitEnded,
        WaitStarted,
    )
    from eventbraid.saga.machine._progress import Progress


def after_wait_started(progress: Progress, event: WaitStarted) -> Progress:
    """Begin a wait, or replace its end by an earlier one."""
    branch = _require_wait(progress, event, event.step)
    before = branch.waiting
    if before is not None and not _is_earlier(event, before):
        refuse(progress, event, "the wait has begun already")
    waiting = Branch(branch.position, waiting=Waiting(event.until))
    root = replaced(progress.graph, progress.root, event.step, waiting)
    return with_root(progress, root)


def after_wait_ended(progress: Progress, event: WaitEnded) -> Progress:
    """Settle the step, and use up the signal."""
    _require_wait(progress, event, event.step)
    root = replaced(progress.graph, progress.root, event.step, None)
    if not event.number:
        return with_root(progress, root, failure=None)
    signal = _require_signal(progress, event, event.signal, event.number)
    return with_root(
        progress,
        root,
        failure=None,
        results={**progress.results, event.step: signal.payload},
        signals=_without(progress, event.number),
    )


def after_signal_received(progress: Progress, event: SignalReceived) -> Progress:
    """Keep the signal until a wait uses it."""
    number = progress.signal_count + 1
    signals = (*progress.signals, (number, event))
    return replace(progress, signals=signals, signal_count=number)


def after_signal_refused(progress: Progress, event: SignalRefused) -> Progress:
    """Drop a signal that no wait can use."""
    _require_signal(progress, event, event.signal, event.number)
    return replace(progress, signals=_without(progress, event.number))


def _require_wait(progress: Progress, event: SagaEvent, step: str) -> Branch:
    shape, branch = require_next(progress, event, step)
    if shape.kind != WAIT:
        refuse(progress, event, f"step {step!r} isn't a wait")
    return branch


def _is_earlier(event: WaitStarted, before: Waiting) -> bool:
    return (
        event.until is not None
        and before.until is not None
        and event.until < before.until
    )


def _require_signal(
    progress: Progress, event: SagaEvent, name: str, number: int
) -> SignalReceived:
    signal = dict(progress.signals).get(number)
    if signal is None or signal.signal != name:
        refuse(progress, event, f"there is no unused signal {name!r} number {number}")
    return signal


def _without(progress: Progress, number: int) -> tuple[tuple[int, SignalReceived], ...]:
    return tuple([one for one in progress.signals if one[0] != number])
