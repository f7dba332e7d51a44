"""The setbacks of a saga in this process: its outages and its defects.

Setbacks aren't recorded. Another process begins without setbacks, because it may have
other code, or run on another machine.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.saga._defect_classification import Defect


_NONE: Mapping[str, Defect] = MappingProxyType({})


class Setbacks:
    """The outages of one saga in a row, and the defects of its compensations.

    Attributes:
        outages: The number of outages in a row. In an outage, the system refused
            something to a function of a step, or other code cancelled the saga's task.
            An outage doesn't count as an attempt.
        outage_blocks: The number of times in a row that an outage has blocked the saga.
        defects: The defects of compensations in this program, by their steps.
    """

    __slots__ = ("defects", "outage_blocks", "outages")

    def __init__(self) -> None:
        """Begin without setbacks."""
        self.outages = 0
        self.outage_blocks = 0
        self.defects: Mapping[str, Defect] = _NONE

    def end_outages(self) -> None:
        """Reset the counts of outages, because an action has succeeded."""
        self.outages = self.outage_blocks = 0

    def add_outage(self) -> int:
        """Count an outage; return the number of outages in a row."""
        self.outages += 1
        return self.outages

    def add_defect(self, defect: Defect) -> None:
        """Add a defect of a compensation; this process doesn't attempt it again."""
        self.defects = {**self.defects, defect.step: defect}

    def add_block(self, *, is_outage: bool) -> None:
        """Count a block by an outage, or reset the count after a block by a defect."""
        self.outage_blocks = self.outage_blocks + 1 if is_outage else 0

    def add_block_of_compensations(self) -> None:
        """Count a block if an outage prevents one of the compensations."""
        if any(defect.is_outage for defect in self.defects.values()):
            self.outage_blocks += 1

    def forget_refused(self) -> None:
        """Remove the defects that are outages, so that those steps are tried again."""
        self.defects = {
            step: defect
            for step, defect in self.defects.items()
            if not defect.is_outage
        }
