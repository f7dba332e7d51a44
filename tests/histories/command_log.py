"""The log of a bank at the end of a history, with the states of its streams."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

import eventbraid as eb
from tests.histories.bank import Moved, Seen

UNBOUNDED = 1 << 62


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of the log."""

    position: int
    stream: str
    version: int
    event: Moved


@dataclass(slots=True)
class Stream:
    """The events of one stream."""

    positions: list[int] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    amounts: list[int] = field(default_factory=list)
    totals: list[int] = field(default_factory=list)

    def numbers(self, kind: str, version: int) -> tuple[int, ...] | None:
        """Return the state at a version, as `bank.numbers_of`; None if there is no."""
        if not 0 <= version <= len(self.amounts):
            return None
        total = self.totals[version]
        if kind == "Account":
            return (total,)
        return version, total, self.amounts[version - 1] if version else 0

    def version_at(self, position: int) -> int:
        """Return the version as of a position of the log."""
        return bisect_right(self.positions, position)

    def span(self, version: int) -> tuple[int, int]:
        """Return the first and the last position at which it had a version."""
        first = self.positions[version - 1] if version else 0
        is_last = version >= len(self.positions)
        return first, UNBOUNDED if is_last else self.positions[version] - 1


class BankLog:
    """The events of a bank.

    Attributes:
        entries: The events, in the order of their positions.
        streams: The streams, by their ids.
        commits: The events of each command, by its id.
    """

    def __init__(self, recorded: Iterable[eb.RecordedEvent]) -> None:
        """Decode the events of the log."""
        self.entries: list[Entry] = []
        self.streams: defaultdict[str, Stream] = defaultdict(Stream)
        self.commits: defaultdict[str, list[Entry]] = defaultdict(list)
        for one in recorded:
            event = eb.decode_event(one)
            assert isinstance(event, Moved)
            entry = Entry(one.position, one.stream, one.version, event)
            self.entries.append(entry)
            self.commits[event.command].append(entry)
            stream = self.streams[one.stream]
            stream.positions.append(one.position)
            stream.commands.append(event.command)
            stream.amounts.append(int(event.amount))
        for stream in self.streams.values():
            stream.totals = list(accumulate(stream.amounts, initial=0))

    def is_true(self, seen: Seen, others: Iterable[Seen] = ()) -> bool:
        """Return whether a stream had a state at a version.

        Args:
            seen: The state. The kind ``own`` stands for the fold of a command over
                its streams.
            others: All states that the command has seen.
        """
        kind, stream, version, numbers = seen
        if kind == "own":
            folded = [one for one in others if one[0] != "own"]
            counts = sum(one[2] for one in folded)
            totals = sum(self.streams[one[1]].totals[one[2]] for one in folded)
            return numbers == (counts, totals)
        return self.streams[stream].numbers(kind, version) == numbers


def read_bank(path: str) -> BankLog:
    """Read the log of a bank."""
    with eb.open(path) as store:
        return BankLog(store.read_all())
