"""The draft of a decision: its records, and the state after each of them.

A rule adds a record to a draft, and reads the progress after that record from the same
draft. So each record is folded exactly once, and a rule can't ignore its own earlier
records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from eventbraid.saga.machine._fold import evolve
from eventbraid.saga.machine._record_texts import text_fields, with_recordable_texts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._progress import Progress
    from eventbraid.saga.machine._state import SagaState

S = TypeVar("S")


class RecordDraft:
    """The records of a decision, and the progress after them.

    Attributes:
        progress: The progress after the records so far.
        events: The records.
    """

    __slots__ = ("events", "progress")

    def __init__(self, progress: Progress) -> None:
        """Begin without records."""
        self.progress = progress
        self.events: list[SagaEvent] = []

    def record(self, event: SagaEvent) -> None:
        """Add a record, with its texts shortened to a length that any store accepts.

        Raises:
            InvalidTransition: The status graph doesn't allow the record in the present
                progress.
        """
        names = text_fields(type(event))
        if names:
            event = with_recordable_texts(event, names)
        self.progress = evolve(self.progress, event)
        self.events.append(event)


class Draft(RecordDraft, Generic[S]):
    """The draft of a decision that needs the saga's declaration.

    Attributes:
        saga: The declaration.
        data: The saga's data after the records so far.
        before_items: The data when the saga reached a step that is executed for each
            item, by the step's name.
        now: The time of the decision.
    """

    __slots__ = ("before_items", "data", "now", "saga")

    def __init__(self, saga: Saga[S], state: SagaState[S], now: datetime) -> None:
        """Begin with a state and without records."""
        # The initializer of the base class isn't called, because the call would cost
        # time at each decision.
        self.progress = state.progress
        self.events = []
        self.saga = saga
        self.data: Encoded[S] = state.data
        self.before_items: Mapping[str, Encoded[S]] = state.before_items
        self.now = now

    def take_data(self, data: Encoded[S]) -> None:
        """Replace the data by the fold that includes the result in the last record."""
        self.data = data

    def keep_data_before_items(self, step: str) -> None:
        """Keep the present data, from which the items of a step are taken."""
        self.before_items = {**self.before_items, step: self.data}

    def return_to(
        self,
        progress: Progress,
        data: Encoded[S],
        before_items: Mapping[str, Encoded[S]],
        records: int,
    ) -> None:
        """Return to the state after the first records of this number."""
        self.progress = progress
        self.data = data
        self.before_items = before_items
        del self.events[records:]
