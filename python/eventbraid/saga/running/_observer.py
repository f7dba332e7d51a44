"""The transitions that a coordinator reports to ``on_event`` after each commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from eventbraid.errors import CoordinatorClosed
from eventbraid.event import event_type
from eventbraid.saga._defect_classification import raise_if_it_ends_the_program
from eventbraid.saga.machine._progress import SagaStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._progress import Progress


class SagaProgress(msgspec.Struct, frozen=True):
    """One recorded transition, the argument of the coordinator's ``on_event``.

    Attributes:
        saga_id: The saga's id.
        saga: The name of its declaration.
        what: The type of the record: ``"saga.step_succeeded"``.
        step: The step that the record is about; empty if it is about the saga.
        status: The saga's status after the commit.

    Example:
        >>> import eventbraid as eb
        >>> eb.saga.SagaProgress.__struct_fields__
        ('saga_id', 'saga', 'what', 'step', 'status')
    """

    saga_id: str
    saga: str
    what: str
    step: str
    status: SagaStatus


Observer = Callable[[SagaProgress], None]


def report_transitions(
    observer: Observer, progress: Progress, events: Iterable[SagaEvent]
) -> None:
    """Call the observer with each record of a commit.

    Raises:
        CoordinatorClosed: The observer raised. The records are durable already, so the
            exception must not count as a failure of the step. The coordinator ends
            instead.
    """
    try:
        for event in events:
            observer(_transition(progress, event))
    except BaseException as error:
        raise_if_it_ends_the_program(error)
        raise CoordinatorClosed(
            f"the coordinator stops, because its on_event raised {error!r}; nothing is "
            "lost; correct on_event and start the program again"
        ) from error


def _transition(progress: Progress, event: SagaEvent) -> SagaProgress:
    step: str = getattr(event, "step", "")
    what = event_type(type(event))
    return SagaProgress(progress.id, progress.saga, what, step, progress.status)
