"""A ledger in memory: for tests, and for measurements without a disk."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from .ledger import Entry, Request, Rule, answer, settle

if TYPE_CHECKING:
    from collections.abc import Iterator


class MemoryLedger:
    """A ledger in memory, which answers at once.

    Args:
        rule: The service's rule.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._entries: list[Entry] = []
        self._by_subject: defaultdict[str, list[Entry]] = defaultdict(list)

    async def post(self, request: Request, *, delay: float = 0.0) -> Entry:
        """Apply the rule; a delayed request arrives even if its caller has left."""
        try:
            if delay:
                await anyio.sleep(delay)
            else:
                await anyio.lowlevel.checkpoint()
        finally:
            entry = self._apply(request)
        return entry

    def entries(self) -> Iterator[Entry]:
        """Iterate over all entries, in the order in which they were made."""
        return iter(self._entries)

    def _apply(self, request: Request) -> Entry:
        history = self._by_subject[request.subject]
        self._entries += settle(self._rule, request, history)
        return answer(request, history)
