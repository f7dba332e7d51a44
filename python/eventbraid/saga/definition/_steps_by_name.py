"""The steps of a saga by their names, with the steps of single items."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar

from eventbraid.saga.definition._each import split_instance
from eventbraid.saga.definition._step_base import SagaStep

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

S = TypeVar("S")


class StepsByName(dict[str, SagaStep[S]]):
    """The steps of a saga by their names.

    If a step is executed for each item, a lookup of the name of an item's step returns
    the step under this name. Such a step isn't kept, because there is no limit to the
    number of items.

    Args:
        steps: The declared steps.
        fan_outs: The names of the steps that are executed for each item.
    """

    __slots__ = ("_fan_outs",)

    def __init__(self, steps: Iterable[SagaStep[S]], fan_outs: Container[str]) -> None:
        super().__init__((step.name, step) for step in steps)
        self._fan_outs = fan_outs

    def __missing__(self, name: str) -> SagaStep[S]:
        """Return the step of an item.

        Raises:
            KeyError: The saga has no such step.
        """
        step, key = split_instance(name)
        if not key or step not in self._fan_outs:
            raise KeyError(name)
        return dataclasses.replace(self[step], name=name)
