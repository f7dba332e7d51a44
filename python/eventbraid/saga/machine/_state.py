"""The state of a saga, which each decision receives and returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from eventbraid.saga.definition._codec import Encoded
from eventbraid.saga.machine._progress import Progress

S = TypeVar("S")


class SagaState(msgspec.Struct, Generic[S], frozen=True, gc=False):
    """All data on which the next decision about a saga depends.

    All parts are folds of the log. So a process that resumes the saga decides as the
    previous process would have decided.

    Attributes:
        progress: The fold of the saga's stream.
        data: The fold of the results of its steps. Its type is the state type in the
            saga's declaration.
        before_items: The data when the saga reached a step that is executed for each
            item, by the step's name. The items are taken from it.
    """

    progress: Progress
    data: Encoded[S]
    before_items: Mapping[str, Encoded[S]] = {}
